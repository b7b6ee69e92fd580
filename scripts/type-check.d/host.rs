//! A host on a system where plugins cannot be loaded: a built-in value is called, leased and reported, its panics are
//! caught, and whatever would load a plugin is refused in one sentence.

use std::{
    error::Error,
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use hotswap_core::{
    ErrorKind, Hotswap, Policy, Settings, Trial, Trust, check::check, crash, loader::Loader,
    reasons::FaultKind, watch::WatchSettings,
};

#[hotswap_sdk::interface]
trait Rules {
    fn judge(&self, order: &str) -> Result<u32, String>;

    fn parent(&self, path: PathBuf) -> Option<PathBuf>;
}

struct BuiltIn;

impl Rules for BuiltIn {
    fn judge(&self, order: &str) -> Result<u32, String> {
        assert!(!order.is_empty(), "an empty order");
        order.parse().map_err(|error| format!("{order}: {error}"))
    }

    fn parent(&self, path: PathBuf) -> Option<PathBuf> {
        path.parent().map(ToOwned::to_owned)
    }
}

#[hotswap_sdk::function]
type Greet = fn(name: &str) -> String;

fn main() -> Result<(), Box<dyn Error>> {
    let trial: Trial<dyn Rules> = Trial::at_top_of_main(|_| Ok(()));
    // SAFETY: nothing can be loaded here, and if anything were, it would be what this program has built.
    let trust = unsafe { Trust::vouch(Policy::default()) };
    let settings = Settings {
        record_leases: true,
        ..Settings::default()
    };
    let rules = Arc::new(Hotswap::<dyn Rules>::builtin_with(BuiltIn, &trust, settings)?);
    let events = rules.events();

    println!("judge: {:?}", rules.call(|it| it.judge("7"))?);
    println!("judge: {:?}", rules.call(|it| it.judge("seven"))?);
    println!("parent: {:?}", rules.call(|it| it.parent("a/b".into()))?);
    assert_eq!(rules.call(|it| it.judge("7"))?, Ok(7));
    assert_eq!(rules.call(|it| it.parent("a/b".into()))?, Some("a".into()));

    let fault = rules.call(|it| it.judge("")).expect_err("a panic");
    println!("fault: {fault}");
    assert!(matches!(&fault.kind, FaultKind::Panicked(text) if text.contains("an empty order")));

    let lease = rules.lease();
    println!("generations: {:?}", rules.generations());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let rules = Arc::clone(&rules);
            thread::spawn(move || (0..10_000).all(|_| rules.with(|it| it.judge("7")) == Ok(7)))
        })
        .collect();
    for thread in threads {
        assert!(thread.join().expect("no panic"));
    }
    assert_eq!(lease.with(|it| it.judge("8")), Ok(8));
    drop(lease);

    let path = "./plugins/plugin.so";
    let refusals = [
        ("load", Hotswap::<dyn Rules>::load(path, &trust).map(drop)),
        ("swap", rules.swap(path).map(drop)),
        ("prepare", rules.prepare(path).map(drop)),
        ("check", check(path, &trust, trial).map(drop)),
        ("function", Loader::new(&trust)?.function::<Greet>(path, "greet").map(drop)),
    ];
    for (what, refusal) in refusals {
        let refusal = refusal.expect_err("nothing is loaded");
        println!("{what}: {refusal}");
        assert!(matches!(refusal.kind(), ErrorKind::UnsupportedPlatform { .. }));
    }
    println!("watch: {}", rules.watch(WatchSettings::default()).expect_err("no file"));
    println!("rollback: {}", rules.rollback().expect_err("one generation"));
    println!("crashes: {}", crash::install_handler().expect_err("no handler"));
    for event in events.try_iter() {
        println!("event: {event}");
    }
    assert_eq!(rules.call(|it| it.judge("9"))?, Ok(9));

    let rules = Arc::into_inner(rules).expect("the only one");
    println!("left: {:?}", rules.shutdown(Duration::from_secs(5)));
    Ok(())
}
