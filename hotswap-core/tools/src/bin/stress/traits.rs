//! Plugins that implement a trait: data of many kinds, objects and futures are passed to and fro on every generation.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    future::{Future, poll_fn},
    ops::Range,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use futures_executor::block_on;
use hotswap_core::{Candidate, HostServices, Hotswap, Settings};
use hotswap_fixtures::{
    desk::{Desk, Listener, Session},
    host_services::{Clerk, Clock, Note, Store},
    shop::v1::{Everything, Line, Order, Page, Shop, Tree, Verdict},
    tasks::{Oracle, Tasks, Work},
};

use crate::{stress, trust};

pub(crate) fn pass_data(path: &Path, swaps: Range<u64>) -> Result<(), Box<dyn Error>> {
    let plugin: Hotswap<dyn Shop> = Hotswap::load(path, &trust())?;
    let lines: Vec<Line> = (1..4)
        .map(|price| Line {
            article: format!("article {price}"),
            price,
        })
        .collect();
    let order = Order {
        id: 7,
        lines: lines.clone(),
        note: Some("no".to_owned()),
    };
    let refused = Ok(Verdict::Refuse {
        why: "no".to_owned(),
        lines: lines.clone(),
    });
    let page = Page {
        total: 3,
        items: lines,
    };
    let tree = Tree {
        number: 1,
        below: vec![Tree::default()],
        beside: Some(Box::default()),
    };
    let all = Everything(
        (-1, 2, 0.5, 'ß', true, ()),
        [None, Some(String::new()), Some("text".to_owned())],
        HashMap::from([("a".to_owned(), vec![1, 2])]),
        BTreeMap::from([(1, Ok("one".to_owned())), (2, Err(-2))]),
        Duration::from_secs(1),
        SystemTime::UNIX_EPOCH,
        Box::new(Some(u128::MAX)),
    );
    let call = |plugin: &Hotswap<dyn Shop>| assert_eq!(plugin.with(|it| it.judge(&order)), refused);
    let run = |plugin: &Hotswap<dyn Shop>| {
        plugin.with(|it| {
            assert_eq!(it.echo_page(page.clone()), page);
            assert_eq!(it.echo_tree(tree.clone()), tree);
            assert_eq!(it.echo(&all), all);
        });
        let too_deep = (0..200).fold(Tree::default(), |inner, number| Tree {
            number,
            below: vec![inner],
            beside: None,
        });
        plugin
            .call(|it| it.echo_tree(too_deep))
            .expect_err("it is too deep");
    };
    stress(plugin, path, "data of a trait", call, run, swaps)
}

pub(crate) fn pass_objects(path: &Path, swaps: Range<u64>) -> Result<(), Box<dyn Error>> {
    let plugin: Hotswap<dyn Desk> = Hotswap::load(path, &trust())?;
    let call = |plugin: &Hotswap<dyn Desk>| {
        let session = plugin.with(|it| it.open("Ada"));
        assert_eq!((session.hit(1), session.user()), (1, "Ada at 1".to_owned()));
    };
    let run = |plugin: &Hotswap<dyn Desk>| {
        plugin.with(|it| it.listen(Box::new(Ear::default())));
        plugin.with(|it| it.tell("text"));
        let sessions = plugin.with(|it| it.open_all(&["Ada".to_owned(), "Bob".to_owned()]));
        let sessions = sessions.expect("both have a name");
        let named = sessions.into_iter().map(|it| (String::new(), Some(it)));
        plugin.with(|it| it.hit_all(named.collect()));
        let session = plugin.with(|it| it.echo(Some(it.open("Ada"))));
        session.expect("it comes back").again().hit(1);
    };
    stress(plugin, path, "objects of a trait", call, run, swaps)
}

/// Futures that the callers' threads poll. Half of those that wait are cancelled.
pub(crate) fn await_methods(path: &Path, swaps: Range<u64>) -> Result<(), Box<dyn Error>> {
    let plugin: Hotswap<dyn Tasks> = Hotswap::load(path, &trust())?;
    let call = |plugin: &Hotswap<dyn Tasks>| {
        assert_eq!(block_on(plugin.call_async(|it| it.add(1, 1))), Ok(3));
    };
    let gates = AtomicU64::new(0);
    let run = |plugin: &Hotswap<dyn Tasks>| {
        let gate = gates.fetch_add(1, Ordering::Relaxed);
        let lease = plugin.lease();
        let mut passing = [(); 4].map(|()| lease.call_async(|it| it.pass(gate)));
        let mut context = Context::from_waker(Waker::noop());
        for future in &mut passing {
            assert!(Pin::new(future).poll(&mut context).is_pending());
        }
        let [first, second, ..] = passing;
        lease.with(|it| it.open(gate));
        assert_eq!((block_on(first), block_on(second)), (Ok(1), Ok(1)));
        let oracle = || Box::new(Sage);
        let question = || "Why?".to_owned();
        let asked = lease.call_async(|it| it.ask_with_own_waker(oracle(), question()));
        assert_eq!(block_on(asked), Ok("Why?! 42".to_owned()));
        let asked = lease.call_async(|it| it.ask(oracle(), question()));
        assert_eq!(block_on(asked), Ok("Why?? 42".to_owned()));
        block_on(lease.call_async(|it| it.fail(2))).expect_err("it panics");
    };
    stress(plugin, path, "async methods", call, run, swaps)
}

/// Tasks of a tokio runtime of each generation: timers, sockets, tasks of their own. Half of them are cancelled.
pub(crate) fn use_runtimes(path: &Path, swaps: Range<u64>) -> Result<(), Box<dyn Error>> {
    let plugin: Hotswap<dyn Work> = Hotswap::load(path, &trust())?;
    let call = |plugin: &Hotswap<dyn Work>| {
        let mut cancelled = plugin.call_async(|it| it.sleep(1_000));
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut cancelled).poll(&mut context).is_pending());
        let slept = block_on(plugin.call_async(|it| it.sleep(1)));
        assert_eq!(slept.as_deref(), Ok("hotswap-fixtures"));
    };
    let run = |plugin: &Hotswap<dyn Work>| {
        let echoed = block_on(plugin.call_async(|it| it.echo("to and fro".to_owned())));
        assert_eq!(echoed, Ok(Ok("to and fro".to_owned())));
        let lines = block_on(plugin.call_async(|it| it.lines(1))).expect("an object");
        assert_eq!(block_on(lines.next()), Some("0".to_owned()));
        let asked = plugin.call_async(|it| it.ask(Box::new(Sage), "Why?".to_owned()));
        assert_eq!(block_on(asked), Ok("Why? 42".to_owned()));
        block_on(plugin.call_async(|it| it.fail())).expect_err("it panics");
    };
    stress(plugin, path, "a tokio runtime", call, run, swaps)
}

/// Services of the host, which threads of the plugins call, too, and which are given objects.
pub(crate) fn take_services(path: &Path, swaps: Range<u64>) -> Result<(), Box<dyn Error>> {
    let settings = Settings {
        host_services: HostServices::new()
            .with::<dyn Store>(Arc::<Memory>::default())
            .with::<dyn Clock>(Arc::<Memory>::default()),
        ..Settings::default()
    };
    let candidate = Candidate::new(path).with_config("thread");
    let plugin = Hotswap::<dyn Clerk>::load_with(candidate, &trust(), settings)?;
    let call = |plugin: &Hotswap<dyn Clerk>| {
        assert_eq!(plugin.with(|it| it.now()), Some(7));
    };
    let run = |plugin: &Hotswap<dyn Clerk>| {
        plugin.with(|it| it.put("key".to_owned(), "value".to_owned()));
        assert_eq!(plugin.with(|it| it.get("key")).as_deref(), Some("value"));
        plugin.with(|it| it.note("to be read and dropped".to_owned()));
        let awaited = block_on(plugin.call_async(|it| it.wait_for("key".to_owned())));
        assert_eq!(awaited.as_deref(), Ok("value"));
        plugin.call(|it| it.fail()).expect_err("it panics");
    };
    stress(plugin, path, "services of the host", call, run, swaps)
}

/// What plugins take from this host.
#[derive(Default)]
struct Memory(Mutex<HashMap<String, String>>);

#[hotswap_sdk::interface]
impl Store for Memory {
    fn get(&self, key: &str) -> Option<String> {
        self.0.lock().expect("no panic").get(key).cloned()
    }

    fn put(&self, key: String, value: String) {
        self.0.lock().expect("no panic").insert(key, value);
    }

    fn fail(&self) {
        std::panic::resume_unwind(Box::new("without a line on stderr"));
    }

    fn keep(&self, note: Box<dyn Note>) {
        assert_eq!(note.text(), "to be read and dropped");
    }

    async fn wait_for(&self, key: String) -> String {
        self.get(&key).unwrap_or_default()
    }
}

impl Clock for Memory {
    fn now(&self) -> u64 {
        7
    }
}

/// An object of the host that plugins await. It is not ready at once.
struct Sage;

#[hotswap_sdk::interface]
impl Oracle for Sage {
    async fn answer(&self, question: String) -> String {
        let mut is_woken = false;
        poll_fn(|context| {
            if std::mem::replace(&mut is_woken, true) {
                return Poll::Ready(());
            }
            // On another thread, as a timer would.
            let waker = context.waker().clone();
            std::thread::spawn(move || waker.wake());
            Poll::Pending
        })
        .await;
        format!("{question} 42")
    }

    fn hear(&self, _: &str) {}
}

/// An object of the host, which plugins keep until they are retired.
#[derive(Default)]
struct Ear(AtomicU64);

impl Listener for Ear {
    fn hear(&self, text: &str) -> u64 {
        self.0.fetch_add(text.len() as u64, Ordering::Relaxed)
    }

    fn take(&self, session: Box<dyn Session>) {
        session.hit(1);
    }

    fn give(&self) -> Option<Box<dyn Session>> {
        None
    }
}
