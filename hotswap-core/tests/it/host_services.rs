//! What a plugin's constructor takes from the host: its services, and the plugin's configuration.

use std::{
    collections::HashMap,
    future::poll_fn,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    thread,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use futures_executor::block_on;
use hotswap_core::{
    Candidate, ErrorKind, EventKind, HostServices, Hotswap, Settings, Stage, State,
    reasons::{Fault, FaultKind},
};
use hotswap_fixtures::host_services::{Clerk, Clock, Note, Store, other};
use hotswap_sdk::{
    expansion::{Described, Dispatch, Entry, Remote, TypeIndex, Types},
    host::HostService,
    interface,
};

use crate::fixtures::{SOON, StopAtEnd, generation_of, plugin, trust, until};

/// A store in the memory of the host.
#[derive(Default)]
struct Memory {
    values: Mutex<HashMap<String, String>>,
    notes: Mutex<Vec<Box<dyn Note>>>,
    wakers: Mutex<Vec<Waker>>,
    _dropped: Option<Dropped>,
}

/// Says that it was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Memory {
    fn values(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.values.lock().unwrap()
    }

    fn notes(&self) -> MutexGuard<'_, Vec<Box<dyn Note>>> {
        self.notes.lock().unwrap()
    }
}

#[interface]
impl Store for Memory {
    fn get(&self, key: &str) -> Option<String> {
        self.values().get(key).cloned()
    }

    fn put(&self, key: String, value: String) {
        self.values().insert(key, value);
        let wakers = std::mem::take(&mut *self.wakers.lock().unwrap());
        wakers.into_iter().for_each(Waker::wake);
    }

    fn fail(&self) {
        panic!("the disk is full");
    }

    fn keep(&self, note: Box<dyn Note>) {
        self.notes().push(note);
    }

    async fn wait_for(&self, key: String) -> String {
        poll_fn(|context| {
            let mut wakers = self.wakers.lock().unwrap();
            match self.get(&key) {
                Some(value) => Poll::Ready(value),
                None => {
                    wakers.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// A clock that counts how often it is asked.
#[derive(Default)]
struct Counter(AtomicU64);

impl Clock for Counter {
    fn now(&self) -> u64 {
        self.0.fetch_add(1, Relaxed) + 1
    }
}

fn settings(services: HostServices) -> Settings<dyn Clerk> {
    Settings {
        host_services: services,
        ..Settings::default()
    }
}

fn with_store(store: &Arc<Memory>) -> HostServices {
    HostServices::new().with::<dyn Store>(Arc::clone(store) as _)
}

fn clerk(config: &str) -> Candidate {
    Candidate::new(plugin("clerk_1")).with_config(config)
}

fn load(store: &Arc<Memory>, config: &str) -> Hotswap<dyn Clerk> {
    Hotswap::load_with(clerk(config), &trust(), settings(with_store(store))).expect("a good plugin")
}

fn config_of(clerk: &Hotswap<dyn Clerk>) -> String {
    clerk.call(|it| it.config()).unwrap()
}

/// The plugin of the build that this generation is not of, if they alternate from the first.
fn other_than(generation: u64) -> PathBuf {
    plugin(if generation % 2 == 1 {
        "clerk_2"
    } else {
        "clerk_1"
    })
}

#[track_caller]
fn unloaded(clerk: &Hotswap<dyn Clerk>, generation: u64) {
    assert_eq!(clerk.wait(generation, SOON), Some(State::Unloaded));
}

#[test]
fn a_constructor_takes_services_and_a_configuration() {
    let store = Arc::<Memory>::default();
    let services = with_store(&store).with::<dyn Clock>(Arc::<Counter>::default());
    let clerk = Hotswap::load_with(clerk("put"), &trust(), settings(services)).unwrap();
    assert_eq!(config_of(&clerk), "put");
    assert_eq!(store.get("made").as_deref(), Some("by the constructor"));
    clerk
        .call(|it| it.put("key".to_owned(), "value".to_owned()))
        .unwrap();
    assert_eq!(clerk.call(|it| it.get("key")), Ok(Some("value".to_owned())));
    assert_eq!(
        clerk.call(|it| (it.now(), it.now())),
        Ok((Some(1), Some(2)))
    );
    // The services are the same for each generation.
    clerk.swap(plugin("clerk_2")).unwrap();
    assert_eq!(clerk.call(|it| (it.build(), it.now())), Ok((2, Some(3))));
    unloaded(&clerk, 1);
}

#[test]
fn a_service_that_the_plugin_can_do_without_may_be_missing() {
    let clerk = load(&Arc::default(), "");
    assert_eq!(clerk.call(|it| it.now()), Ok(None));
}

#[test]
fn a_service_that_it_cannot_do_without_is_asked_for_before_its_code_runs() {
    let services = HostServices::new().with::<dyn Clock>(Arc::<Counter>::default());
    let error = Hotswap::load_with(clerk("panic"), &trust(), settings(services));
    let error = error.map(drop).unwrap_err();
    assert_eq!(
        error.reason(),
        "layout: its constructor takes the host service hotswap-fixtures::Store, which this host does not have \
         (`Settings::host_services`)"
    );
    assert_eq!(error.stage(), Stage::Layout);
    let ErrorKind::MissingHostService { interface, .. } = error.kind() else {
        panic!("another kind")
    };
    assert_eq!(interface, "hotswap-fixtures::Store");
}

/// A service that differs from the one that the plugins know.
fn refusal_with<I: HostService + ?Sized>(service: Arc<I>) -> String {
    let store = Arc::<Memory>::default();
    let services = with_store(&store).with::<I>(service);
    let loaded = Hotswap::<dyn Clerk>::load_with(clerk(""), &trust(), settings(services));
    loaded.map(drop).unwrap_err().reason()
}

#[test]
fn a_service_of_another_type_is_refused_also_if_the_plugin_can_do_without() {
    struct Short;

    impl other::Clock for Short {
        fn now(&self) -> u32 {
            0
        }
    }

    assert_eq!(
        refusal_with::<dyn other::Clock>(Arc::new(Short)),
        "layout: the host service hotswap-fixtures::Clock: now(): expected u32, found u64"
    );
}

#[test]
fn a_service_of_an_incompatible_version_is_refused() {
    struct OfAnotherVersion;

    // SAFETY: it is described as the trait is, and no plugin is accepted, so that there is no proxy.
    unsafe impl Described for OfAnotherVersion {
        const PACKAGE: &'static str = <dyn Clock as Described>::PACKAGE;
        const NAME: &'static str = <dyn Clock as Described>::NAME;
        const VERSION: &'static str = "0.3.7";

        fn describe_interface(types: &mut Types) -> TypeIndex {
            <dyn Clock>::describe_interface(types)
        }

        unsafe fn proxy(_: Remote) -> Box<Self> {
            unreachable!()
        }
    }

    // SAFETY: no plugin is accepted, so that nothing is called.
    unsafe impl<S> Dispatch<S> for OfAnotherVersion {
        const VTABLE: &'static [Entry] = &[];
    }

    assert_eq!(
        refusal_with(Arc::new(OfAnotherVersion)),
        "version: the interface hotswap-fixtures::Clock: expected 0.3.x, found 0.1.0"
    );
}

#[test]
fn a_refused_configuration_changes_nothing() {
    let store = Arc::<Memory>::default();
    let clerk = load(&store, "first");
    let events = clerk.events();
    assert!(matches!(
        events.recv().unwrap().kind,
        EventKind::Accepted { .. }
    ));
    let refused = |config: &str| clerk.swap_config(config).map(drop).unwrap_err().reason();
    assert_eq!(
        refused("refuse"),
        "root module: its constructor failed: it is asked to refuse"
    );
    let reason = refused("panic");
    assert!(
        reason.starts_with("root module: its constructor panicked: it is asked to panic"),
        "{reason}"
    );
    for event in events.iter().take(2) {
        assert!(matches!(event.kind, EventKind::Refused { .. }));
    }
    assert_eq!(config_of(&clerk), "first");
    assert_eq!(clerk.generations().len(), 1);
    let refused = clerk.swap(Candidate::new(plugin("clerk_2")).with_config("refuse"));
    refused.map(drop).unwrap_err();
    assert_eq!(config_of(&clerk), "first");
}

#[test]
fn a_configuration_alone_is_swapped() {
    let store = Arc::<Memory>::default();
    let clerk = load(&store, "first");
    let events = clerk.events();
    let swapped = clerk.swap_config("second").unwrap();
    assert_eq!((swapped.generation, swapped.retired), (2, 1));
    let path = plugin("clerk_1").display().to_string();
    let accepted = [
        format!("accepted generation 1: {path}"),
        format!("accepted generation 2: {path} (generation 1 with another configuration)"),
    ];
    for expected in accepted {
        assert_eq!(events.recv().unwrap().to_string(), expected);
    }
    assert_eq!(config_of(&clerk), "second");
    assert_eq!(clerk.last_accepted(), plugin("clerk_1"));
    unloaded(&clerk, 1);
    // Another file goes on with it,
    clerk.swap(plugin("clerk_2")).unwrap();
    assert_eq!(clerk.call(|it| it.build()), Ok(2));
    assert_eq!(config_of(&clerk), "second");
    // unless it has its own.
    clerk.prepare(self::clerk("third")).unwrap().publish();
    assert_eq!(config_of(&clerk), "third");
    // Not a text.
    clerk.swap_config(vec![0xff, 0]).unwrap();
    assert_eq!(config_of(&clerk), "no text");
}

/// A probe of a candidate with the configuration "second", which waits until something else has happened.
struct HeldProbe {
    is_asked: Receiver<()>,
    answer: Sender<()>,
}

impl HeldProbe {
    fn of(settings: &mut Settings<dyn Clerk>) -> Self {
        let (asked, is_asked) = bounded(1);
        let (answer, answers) = bounded(1);
        settings.probe = Some(Arc::new(move |it, _| {
            if it.config() == "second" {
                asked.send(()).unwrap();
                answers.recv().unwrap();
            }
            Ok(())
        }));
        Self { is_asked, answer }
    }

    /// Swaps the configuration, which is refused because of what happens meanwhile.
    #[track_caller]
    fn refuses_second(self, clerk: &Hotswap<dyn Clerk>, meanwhile: impl FnOnce()) {
        let error = thread::scope(|scope| {
            let swapping = scope.spawn(|| clerk.swap_config("second"));
            self.is_asked.recv().unwrap();
            meanwhile();
            self.answer.send(()).unwrap();
            swapping.join().unwrap().map(drop).unwrap_err()
        });
        assert_eq!(
            error.reason(),
            "host: another generation has become live meanwhile"
        );
    }
}

/// It would otherwise take the place of newer code.
#[test]
fn a_configuration_is_refused_if_another_generation_has_become_live() {
    let store = Arc::<Memory>::default();
    let mut settings = settings(with_store(&store));
    let probe = HeldProbe::of(&mut settings);
    let clerk = Hotswap::load_with(self::clerk("first"), &trust(), settings).unwrap();
    let newer = clerk.prepare(plugin("clerk_2")).unwrap();
    probe.refuses_second(&clerk, || {
        newer.publish();
    });
    assert_eq!(
        clerk.call(|it| (it.build(), it.config())),
        Ok((2, "first".to_owned()))
    );
    clerk.swap_config("third").unwrap();
    assert_eq!(
        clerk.call(|it| (it.build(), it.config())),
        Ok((2, "third".to_owned()))
    );
}

/// Nor would code that was rolled back come back with it.
#[test]
fn a_configuration_is_refused_if_its_generation_was_rolled_back() {
    let store = Arc::<Memory>::default();
    let mut settings = settings(with_store(&store));
    settings.probation = Some(SOON);
    let probe = HeldProbe::of(&mut settings);
    let clerk = Hotswap::load_with(self::clerk("first"), &trust(), settings).unwrap();
    let faulty = clerk.swap(plugin("clerk_2")).unwrap().generation;
    probe.refuses_second(&clerk, || {
        let rolled_back = clerk.report_fault(faulty, "a wrong answer");
        rolled_back.expect("one is enough");
    });
    assert_eq!(
        clerk.call(|it| (it.build(), it.config())),
        Ok((1, "first".to_owned()))
    );
    unloaded(&clerk, faulty);
}

#[test]
fn a_rollback_goes_back_to_the_earlier_configuration() {
    let store = Arc::<Memory>::default();
    let clerk = load(&store, "first");
    clerk.swap_config("second").unwrap();
    unloaded(&clerk, 1);
    let back = clerk.rollback().unwrap();
    assert_eq!(back.loaded_again, Some(1));
    assert_eq!(config_of(&clerk), "first");
    // What is next goes on from there.
    clerk.swap(plugin("clerk_2")).unwrap();
    assert_eq!(config_of(&clerk), "first");
}

/// Its file is not read again.
#[test]
fn a_configuration_is_swapped_when_the_file_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libclerk.so");
    std::fs::copy(plugin("clerk_1"), &path).unwrap();
    let store = Arc::<Memory>::default();
    let clerk =
        Hotswap::<dyn Clerk>::load_with(&path, &trust(), settings(with_store(&store))).unwrap();
    std::fs::remove_file(&path).unwrap();
    clerk.swap_config("second").unwrap();
    assert_eq!(config_of(&clerk), "second");
}

#[test]
fn a_built_in_value_has_no_configuration() {
    struct Nobody;

    #[interface]
    impl Clerk for Nobody {
        fn build(&self) -> u64 {
            0
        }

        fn config(&self) -> String {
            String::new()
        }

        fn get(&self, _: &str) -> Option<String> {
            None
        }

        fn put(&self, _: String, _: String) {}

        fn now(&self) -> Option<u64> {
            None
        }

        fn fail(&self) {}

        fn note(&self, _: String) {}

        async fn wait_for(&self, key: String) -> String {
            key
        }
    }

    let store = Arc::<Memory>::default();
    let settings = settings(with_store(&store));
    let clerk = Hotswap::<dyn Clerk>::builtin_with(Nobody, &trust(), settings).unwrap();
    let error = clerk.swap_config("second").map(drop).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NothingToConfigure);
    clerk.swap(self::clerk("first")).unwrap();
    assert_eq!(config_of(&clerk), "first");
    clerk.swap_config("second").unwrap();
    assert_eq!(config_of(&clerk), "second");
}

#[test]
fn a_panic_of_a_service_is_a_fault_of_the_call() {
    let clerk = load(&Arc::default(), "");
    let Err(Fault {
        kind: FaultKind::Panicked(text),
        ..
    }) = clerk.call(|it| it.fail())
    else {
        panic!("no fault")
    };
    assert!(text.starts_with("the disk is full"), "{text}");
    assert_eq!(clerk.call(|it| it.build()), Ok(1));
}

#[test]
fn a_panic_of_a_service_in_a_destructor_is_told() {
    let clerk = load(&Arc::default(), "fail at the end");
    let events = clerk.events();
    clerk.swap_config("").unwrap();
    unloaded(&clerk, 1);
    let told = events.try_iter().find_map(|event| match event.kind {
        EventKind::HookPanicked { panic, .. } => Some(panic),
        _ => None,
    });
    assert_eq!(told.as_deref(), Some("panicked: the disk is full"));
}

#[test]
fn what_a_service_keeps_of_a_plugin_holds_its_generation() {
    let store = Arc::<Memory>::default();
    let clerk = load(&store, "");
    clerk.call(|it| it.note("hello".to_owned())).unwrap();
    clerk.swap(plugin("clerk_2")).unwrap();
    let held_by = || match generation_of(&clerk, 1).state {
        State::Draining { held_by, .. } => held_by,
        state => panic!("{state:?}"),
    };
    until(|| !held_by().is_empty());
    assert_eq!(held_by()[0].to_string(), "1 object of Note");
    assert_eq!(store.notes()[0].text(), "hello");
    store.notes().clear();
    unloaded(&clerk, 1);
}

/// The candidate may still be refused, and nobody would drop them.
#[test]
fn a_constructor_gives_a_service_no_objects() {
    let store = Arc::<Memory>::default();
    let clerk = load(&store, "");
    let reason = clerk.swap_config("note").map(drop).unwrap_err().reason();
    assert_eq!(
        reason,
        "root module: its constructor failed: its generation is not in use, and makes no objects or wakers"
    );
    assert!(store.notes().is_empty());
    assert_eq!(clerk.generations().len(), 1);
}

#[test]
fn a_plugin_awaits_a_service() {
    let store = Arc::<Memory>::default();
    let clerk = Arc::new(load(&store, ""));
    let waiting = {
        let clerk = Arc::clone(&clerk);
        thread::spawn(move || block_on(clerk.call_async(|it| it.wait_for("key".to_owned()))))
    };
    until(|| !store.wakers.lock().unwrap().is_empty());
    clerk.swap(plugin("clerk_2")).unwrap();
    store.put("key".to_owned(), "value".to_owned());
    assert_eq!(waiting.join().unwrap(), Ok("value".to_owned()));
    unloaded(&clerk, 1);
}

/// Its proxies are never dropped. What the host has lent them is freed when the image is gone, and not before.
#[test]
fn what_a_plugin_keeps_in_a_static_leaves_nothing_behind() {
    let store = Arc::<Memory>::default();
    let services = with_store(&store);
    let before = Arc::strong_count(&store);
    let clerk = Hotswap::load_with(clerk("keep"), &trust(), settings(services)).unwrap();
    for generation in 1..=300 {
        clerk.swap(other_than(generation)).unwrap();
        unloaded(&clerk, generation);
    }
    assert_eq!(
        Arc::strong_count(&store),
        before + 1,
        "that of the live one"
    );
    assert!(clerk.shutdown(SOON).iter().all(|it| it.state.has_ended()));
    assert_eq!(Arc::strong_count(&store), 1, "ours");
}

#[test]
fn a_service_stays_until_the_image_is_gone() {
    let dropped = Arc::<AtomicBool>::default();
    let store = Arc::new(Memory {
        _dropped: Some(Dropped(Arc::clone(&dropped))),
        ..Memory::default()
    });
    let clerk = load(&store, "keep");
    drop(store);
    let lease = clerk.lease();
    let events = clerk.events();
    drop(clerk);
    lease.with(|it| it.put("key".to_owned(), "value".to_owned()));
    assert!(!dropped.load(Relaxed));
    drop(lease);
    until(|| dropped.load(Relaxed));
    assert!(
        events
            .iter()
            .any(|it| matches!(it.kind, EventKind::Unloaded { .. }))
    );
}

#[test]
fn threads_of_plugins_call_services_while_they_are_swapped() {
    let store = Arc::<Memory>::default();
    let mut settings = settings(with_store(&store));
    settings.limits.ended_max = 100;
    let clerk = Hotswap::load_with(clerk("thread"), &trust(), settings).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let value = clerk.call(|it| {
                    it.put("key".to_owned(), it.build().to_string());
                    it.get("key")
                });
                assert!(value.unwrap().is_some());
            }
        });
        for generation in 1..=100 {
            clerk.swap(other_than(generation)).unwrap();
        }
    });
    for generation in 1..=100 {
        unloaded(&clerk, generation);
    }
    assert_eq!(store.get("thread").as_deref(), Some("runs"));
}

/// Several of a kind: one file with a configuration for each, and plugins of other interfaces beside them.
#[test]
fn one_file_serves_as_several_plugins() {
    let store = Arc::<Memory>::default();
    let mut clerks = HashMap::<String, Hotswap<dyn Clerk>>::new();
    for name in ["north", "south", "east"] {
        clerks.insert(name.to_owned(), load(&store, name));
    }
    let configs = |clerks: &HashMap<String, Hotswap<dyn Clerk>>| {
        let mut all: Vec<_> = clerks
            .iter()
            .map(|(name, clerk)| (name.clone(), config_of(clerk)))
            .collect();
        all.sort();
        all
    };
    let expected = |all: [(&str, &str); 3]| all.map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(
        configs(&clerks),
        expected([("east", "east"), ("north", "north"), ("south", "south")])
    );
    clerks["south"].swap_config("south 2").unwrap();
    clerks["north"].swap(plugin("clerk_2")).unwrap();
    assert_eq!(
        configs(&clerks),
        expected([("east", "east"), ("north", "north"), ("south", "south 2")])
    );
    let builds = ["east", "north", "south"].map(|name| clerks[name].call(|it| it.build()).unwrap());
    assert_eq!(builds, [1, 2, 1]);
    unloaded(&clerks["south"], 1);
    unloaded(&clerks["north"], 1);
    let left = clerks.remove("east").unwrap().shutdown(SOON);
    assert!(left.iter().all(|it| it.state.has_ended()));
    assert_eq!(config_of(&clerks["south"]), "south 2");
}
