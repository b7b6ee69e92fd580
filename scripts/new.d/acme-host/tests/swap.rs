//! The plugin of this workspace, as a host has it: it is replaced by its next build, and leaves the process.

use std::{path::PathBuf, time::Duration};

use acme_types::{Job, Worker};
use hotswap_core::{Hotswap, Policy, State, Trust};
use hotswap_dev::{DevSettings, build};

/// Long enough for anything that must happen, on any machine.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn the_next_build_takes_over_and_the_old_one_leaves() {
    let policy = Policy {
        // Whoever owns the folder that this was checked out into.
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: the plugin is built from this workspace.
    let trust = unsafe { Trust::vouch(policy) };
    let worker: Hotswap<dyn Worker> = Hotswap::load(built(), &trust).unwrap();
    let work = || {
        let text = "tea".to_owned();
        worker.call(|it| it.work(&Job { number: 1, text }))
    };
    work().unwrap().unwrap();

    // The same code, if it was not edited meanwhile: it is a new generation all the same.
    let swapped = worker.swap(built()).unwrap();
    assert_eq!(worker.lease().number(), swapped.generation);
    work().unwrap().unwrap();

    // Nothing of the old one is left: no thread, no thread-local, no object.
    let end = worker.wait(swapped.retired, SOON);
    assert_eq!(end, Some(State::Unloaded));
    let mapped = worker.shutdown(SOON);
    assert!(mapped.is_empty(), "{mapped:?}");
}

/// `cargo test` builds no plugins, as no test links to them: so this does.
fn built() -> PathBuf {
    let settings = DevSettings {
        package: Some("acme-plugin".to_owned()),
        host: Some(env!("CARGO_PKG_NAME").to_owned()),
        ..DevSettings::default()
    };
    build(settings).unwrap_or_else(|error| panic!("{error}"))
}
