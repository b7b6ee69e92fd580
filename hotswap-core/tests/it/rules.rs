//! Interfaces that are traits.

use std::{
    fs::{self, File},
    sync::{Arc, atomic::AtomicU64},
    thread,
};

use hotswap_core::{
    Hotswap, Lease, Settings, Stage, State,
    loader::Loader,
    reasons::{Fault, FaultKind},
};
use hotswap_fixtures::{rules::Rules, shop::v1::Shop, workload::Workload};
use hotswap_unload::{PluginTable, TABLE_SYMBOL};

use crate::{
    alone::alone,
    fixtures::{SOON, plugin, trust},
};

fn load(name: &str) -> Hotswap<dyn Rules> {
    Hotswap::load(plugin(name), &trust()).expect("a good plugin")
}

#[track_caller]
fn unloaded(rules: &Hotswap<dyn Rules>, generation: u64) {
    assert_eq!(rules.wait(generation, SOON), Some(State::Unloaded));
}

#[test]
fn a_trait_is_called() {
    let rules = load("rules_1");
    assert_eq!(rules.call(|it| it.build()), Ok(1));
    assert_eq!(
        rules.with(|it| (it.is_text(""), it.is_text("a"))),
        (false, true)
    );
    assert_eq!(rules.with(|it| it.greet("Ada")), "Hello Ada");
    assert_eq!(rules.with(|it| it.parse("-7".to_owned())), Ok(-7));
    let error = rules
        .call(|it| it.parse("x".to_owned()))
        .expect("an answer");
    assert_eq!(error, Err("no number: x".to_owned()));
    assert_eq!(rules.with(|it| it.mean(&[1.0, 2.0, 6.0])), Some(3.0));
    assert_eq!(rules.with(|it| it.mean(&[])), None);
}

#[test]
fn a_plugin_with_a_root_module_of_its_own_is_refused() {
    let rules = load("rules_1");
    let error = rules.swap(plugin("build_1")).expect_err("another kind");
    assert_eq!(
        error.reason(),
        "layout: another kind of plugin: expected one made with `#[plugin]`, found one made with a root module of its own"
    );
    assert_eq!(rules.with(|it| it.build()), 1);
}

#[test]
fn a_function_can_be_given_for_a_closure() {
    fn build(rules: &dyn Rules) -> u64 {
        rules.build()
    }
    let rules = load("rules_1");
    assert_eq!((rules.with(build), rules.call(build)), (1, Ok(1)));
    let lease = rules.lease();
    assert_eq!((lease.with(build), lease.call(build)), (1, Ok(1)));
}

#[test]
fn one_value_serves_all_callers() {
    let rules = load("rules_1");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| assert!(rules.with(|it| it.count()) > 0)));
        }
    });
    assert_eq!(rules.with(|it| it.count()), 401);
}

/// Code that is generic over the trait accepts a plugin, too.
#[test]
fn the_proxy_implements_the_trait() {
    fn greet_twice(rules: &(impl Rules + ?Sized)) -> String {
        format!("{} {}", rules.greet("a"), rules.greet("b"))
    }
    let rules = load("rules_1");
    assert_eq!(rules.with(|it| greet_twice(it)), "Hello a Hello b");
}

#[test]
fn a_panic_is_a_fault() {
    let rules = load("rules_1");
    let fault = rules.call(|it| it.panic("oh dear")).unwrap_err();
    assert_eq!(fault.generation, Some(1));
    let FaultKind::Panicked(text) = fault.kind else {
        panic!("{fault}");
    };
    assert!(text.starts_with("oh dear ("), "{text}");
    assert!(text.contains("rules_1.rs:"), "{text}");
    let fault = rules.call(|it| {
        it.panic("again");
        unreachable!("the closure goes on");
    });
    let kind = Result::<(), _>::unwrap_err(fault).kind;
    assert!(matches!(kind, FaultKind::Panicked(_)), "{kind}");
    rules.swap(plugin("rules_2")).unwrap();
    let fault = rules.lease().call(|it| it.panic("four")).unwrap_err();
    assert_eq!(fault.generation, Some(2));
    let FaultKind::Panicked(text) = fault.kind else {
        panic!("{fault}");
    };
    assert!(text.starts_with("a value that is no text ("), "{text}");
    unloaded(&rules, 1);
}

/// Without `call`, the caller panics. The payload is in the host's memory.
#[test]
fn a_panic_is_the_callers() {
    let rules = load("rules_1");
    let panicked = thread::scope(|scope| scope.spawn(|| rules.with(|it| it.panic("oh"))).join());
    let payload = panicked.expect_err("a panic");
    rules.swap(plugin("rules_2")).unwrap();
    unloaded(&rules, 1);
    let fault = payload.downcast::<Fault>().expect("a fault");
    let said = fault.to_string();
    assert!(said.starts_with("panicked: oh ("), "{said}");
    assert!(said.ends_with("), in a call of generation 1"), "{said}");
}

#[test]
fn answers_outlive_their_generation() {
    let rules = load("rules_1");
    let (greeting, error) = rules.with(|it| (it.greet("Ada"), it.parse("x".to_owned())));
    rules.swap(plugin("rules_2")).unwrap();
    unloaded(&rules, 1);
    assert_eq!(greeting, "Hello Ada");
    assert_eq!(error.unwrap_err(), "no number: x");
    assert_eq!(rules.with(|it| it.greet("Ada")), "Good day, Ada");
}

#[test]
fn a_lease_stays_with_its_generation() {
    let rules = load("rules_1");
    let lease: Lease<dyn Rules> = rules.lease();
    rules.swap(plugin("rules_2")).unwrap();
    assert_eq!(
        (lease.with(|it| it.build()), rules.with(|it| it.build())),
        (1, 2)
    );
    drop(lease);
    unloaded(&rules, 1);
}

/// A call in a spawned task. There the compiler demands `Interface` of `dyn Rules + 'a` for every lifetime.
#[test]
fn a_call_may_be_spawned() {
    let rules = Arc::new(load("rules_1"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let shared = Arc::clone(&rules);
    let task = runtime.spawn(async move { shared.call(|it| it.greet("task")) });
    assert_eq!(runtime.block_on(task).unwrap(), Ok("Hello task".to_owned()));
    drop(runtime);
    let rules = Arc::into_inner(rules).unwrap();
    assert!(rules.shutdown(SOON).iter().all(|it| it.state.has_ended()));
}

#[test]
fn a_probe_asks_the_trait() {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let settings = Settings::<dyn Rules> {
        probe: Some(Arc::new(|candidate, live| {
            ASKED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let before = live.map(|live| live.build());
            match (before, candidate.build()) {
                (Some(1), 2) => Err("build 2 is not for here".to_owned()),
                _ => Ok(()),
            }
        })),
        ..Settings::default()
    };
    let rules = Hotswap::load_with(plugin("rules_1"), &trust(), settings).unwrap();
    let error = rules.swap(plugin("rules_2")).unwrap_err();
    assert_eq!(
        (error.stage(), &*error.reason()),
        (Stage::Probe, "probe: build 2 is not for here")
    );
    rules.swap(plugin("rules_1")).unwrap();
    assert_eq!(ASKED.load(std::sync::atomic::Ordering::Relaxed), 3);
    unloaded(&rules, 1);
}

/// What a candidate panics with is the reason of the refusal.
#[test]
fn a_candidate_may_panic_in_a_probe() {
    let settings = Settings::<dyn Rules> {
        probe: Some(Arc::new(|candidate, live| {
            if live.is_some() {
                candidate.panic("oh");
            }
            Ok(())
        })),
        ..Settings::default()
    };
    let rules = Hotswap::load_with(plugin("rules_1"), &trust(), settings).unwrap();
    let error = rules.swap(plugin("rules_1")).unwrap_err();
    assert_eq!(error.stage(), Stage::Probe);
    let reason = error.reason();
    assert!(reason.starts_with("probe: panicked: oh ("), "{reason}");
    assert_eq!(rules.with(|it| it.build()), 1);
}

/// The value is dropped exactly once: when its generation is retired, before that is unloaded. So is the value of a
/// candidate that is refused or not published.
#[test]
fn the_value_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes");
    let path = notes.to_str().unwrap().to_owned();
    let noted = || fs::read_to_string(&notes).unwrap_or_default();
    let settings = Settings::<dyn Rules> {
        probe: Some(Arc::new(move |candidate, live| {
            candidate.parse(path.clone()).ok();
            match (candidate.build(), live) {
                (2, Some(live)) if live.number() > 1 => Err("refused".to_owned()),
                _ => Ok(()),
            }
        })),
        ..Settings::default()
    };
    let rules = Hotswap::load_with(plugin("rules_2"), &trust(), settings).unwrap();
    drop(rules.prepare(plugin("rules_2")).unwrap());
    rules.swap(plugin("rules_1")).unwrap();
    unloaded(&rules, 1);
    rules.swap(plugin("rules_2")).unwrap_err();
    assert!(rules.shutdown(SOON).iter().all(|it| it.state.has_ended()));
    assert_eq!(noted(), "dropped\ndropped\ndropped\n");
}

/// So that no thread is started to run the hook.
#[test]
fn a_value_without_a_destructor_has_no_hook() {
    let loader = Loader::new(&trust()).unwrap();
    let has_hook = |name: &str| {
        let library = loader.open(plugin(name)).unwrap();
        // SAFETY: a plugin with `unloadable!` has its table under this name.
        let table = unsafe { library.c_static::<PluginTable>(TABLE_SYMBOL) }.unwrap();
        table.with(|it| it.before_unload.is_some())
    };
    assert!(!has_hook("rules_1"));
    assert!(has_hook("rules_2"), "its value has a destructor");
}

/// Its own hook would end the process.
#[test]
fn a_plugin_of_another_trait_leaves_without_its_hook() {
    let error = Hotswap::<dyn Shop>::load(plugin("rules_fails"), &trust()).map(drop);
    let error = error.expect_err("it is another interface");
    let reason =
        "layout: another interface: expected hotswap-fixtures::Shop, found hotswap-fixtures::Rules";
    assert_eq!(error.reason(), reason);
}

/// The value is dropped all the same, which ends its thread.
#[test]
fn a_hook_may_panic() {
    let it = Hotswap::<dyn Workload>::load(plugin("hook_panics"), &trust()).unwrap();
    assert_eq!(it.with(|it| it.identity()), 1);
    it.swap(plugin("hook_panics")).unwrap();
    assert_eq!(it.wait(1, SOON), Some(State::Unloaded));
    let events = it.events();
    let mut events = events.try_iter().map(|event| event.to_string());
    let panicked = "hook-panicked generation 1: the hook panicked, on purpose";
    assert!(events.any(|event| event.starts_with(panicked)));
}

#[test]
fn a_thread_of_a_plugin_may_panic_where_nobody_can_read_it() {
    let test = "rules::a_thread_of_a_plugin_may_panic_where_nobody_can_read_it";
    alone(test, || {
        let it = Hotswap::<dyn Workload>::load(plugin("hook_panics"), &trust()).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        rustix::stdio::dup2_stderr(full).unwrap();
        assert_eq!(it.with(|it| it.work(7)), 7);
    });
}

#[test]
fn a_constructor_may_fail() {
    let rules = load("rules_1");
    let error = rules.swap(plugin("rules_fails")).unwrap_err();
    let reason = "root module: its constructor failed: no licence";
    assert_eq!((error.stage(), &*error.reason()), (Stage::Root, reason));
    assert_eq!(rules.with(|it| it.build()), 1);
}
