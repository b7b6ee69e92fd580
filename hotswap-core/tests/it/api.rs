//! What the public types promise beside what their signatures say.

use std::{fmt::Debug, panic::UnwindSafe, sync::Arc, time::Duration};

use hotswap_core::{
    canary::*, check::*, event::*, future::*, loader::*, reasons::*, services::*, watch::*, *,
};
use hotswap_fixtures::{FixtureRef, tasks::Tasks};

use crate::functions::Greet;

/// Any thread may have it, and several at once; it can be printed.
fn shared<T: Send + Sync + Debug>() {}

/// One thread at a time may have it: there is one thing to be done with it.
fn sent<T: Send + Debug>() {}

/// It owns all that it is made of.
fn value<T: Clone + Send + Sync + Debug + UnwindSafe + 'static>() {}

#[test]
fn everything_goes_to_any_thread() {
    shared::<Hotswap<FixtureRef>>();
    shared::<Arc<Hotswap<FixtureRef>>>();
    shared::<Generation<FixtureRef>>();
    shared::<Lease<FixtureRef>>();
    shared::<Bound<FixtureRef, extern "C" fn() -> u64>>();
    shared::<Canary<'_, FixtureRef>>();
    shared::<Choice<FixtureRef>>();
    shared::<Rollout>();
    sent::<ChoiceFuture<dyn Tasks, u64>>();
    sent::<Prepared<'_, FixtureRef>>();
    sent::<CallFuture<dyn Tasks, u64>>();
    sent::<EventStream>();
    sent::<ThreadFuture<Result<Prepared<'static, FixtureRef>>>>();
    sent::<WaitFuture>();
    sent::<ShutdownFuture>();
    shared::<Backtrace>();
    shared::<Settings<FixtureRef>>();
    shared::<Trial<FixtureRef>>();
    shared::<HostServices>();
    shared::<Loader>();
    shared::<Library>();
    shared::<Symbol<extern "C" fn()>>();
    shared::<Greet>();
    shared::<Watch>();
    shared::<Trust>();
}

#[test]
fn reports_are_values() {
    value::<CheckReport>();
    value::<Decision>();
    value::<Figures>();
    value::<Progress>();
    value::<Rule>();
    value::<Share>();
    value::<Side>();
    value::<Step>();
    value::<Distrust>();
    value::<Error>();
    value::<ErrorKind>();
    value::<Event>();
    value::<EventKind>();
    value::<Fault>();
    value::<FaultKind>();
    value::<GenerationInfo>();
    value::<HeapLeft>();
    value::<Holder>();
    value::<LibraryInfo>();
    value::<Limits>();
    value::<LoaderSettings>();
    value::<OldLibrary>();
    value::<ParseError>();
    value::<Phases>();
    value::<PinReason>();
    value::<Policy>();
    value::<PublicKey>();
    value::<Candidate>();
    value::<RefInfo>();
    value::<RolledBack>();
    value::<ServiceEnd>();
    value::<ServiceInfo>();
    value::<ServiceChange>();
    value::<ServiceSettings>();
    value::<ServiceState>();
    value::<Sha256>();
    value::<SignatureProblem>();
    value::<Stage>();
    value::<State>();
    value::<Swapped>();
    value::<FunctionInfo>();
    value::<SystemError>();
    value::<WatchSettings>();
}

/// What a host sets is written in one expression; all else stays as it is by default.
#[test]
fn settings_are_one_expression() {
    let minute = Duration::from_secs(60);
    let settings: Settings<FixtureRef> = Settings {
        probation: Some(minute),
        limits: Limits {
            events_max: 7,
            ..Limits::default()
        },
        services: Some(ServiceSettings {
            stop_deadline: minute,
        }),
        ..Settings::default()
    };
    assert_eq!(
        (settings.limits.events_max, settings.rollback_copies_max),
        (7, 1)
    );
    let settings = LoaderSettings {
        limits: settings.limits,
        ..LoaderSettings::default()
    };
    assert_eq!(settings.limits.events_max, 7);
    let watch = WatchSettings {
        settle: minute,
        ..WatchSettings::default()
    };
    assert!(watch.settle > watch.retry_after);
    let policy = Policy {
        any_owner: true,
        ..Policy::default()
    };
    assert!(policy.follow_links);
}

/// Every name of the crate is looked at in here, or has no values.
#[test]
fn no_name_is_forgotten() {
    const WITHOUT_VALUES: &[&str] = &[
        "AssertHostOwned",
        "HostOwned",
        "Interface",
        "Probe",
        "Result",
        "check",
        "detach_current_thread",
        "one_line",
        "printable",
    ];
    let here = include_str!("api.rs");
    let names = all_names();
    assert!(names.len() > 50, "{names:?}");
    for name in names {
        let is_asserted = ["shared::<", "sent::<", "value::<"].iter().any(|call| {
            here.contains(&format!("{call}{name}>")) || here.contains(&format!("{call}{name}<"))
        });
        assert!(is_asserted || WITHOUT_VALUES.contains(&&*name), "`{name}`");
    }
}

/// Few names at the root, each thing under one name.
#[test]
fn the_root_is_a_page() {
    let root = reexported(LIB.split("\npub mod event {").next().unwrap());
    let modules = LIB.lines().filter(|line| line.starts_with("pub mod "));
    let count = root.len() + modules.count();
    assert!(count <= 40, "{count} names");
    let mut all = all_names();
    let found = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), found, "a name is there twice");
}

const LIB: &str = include_str!("../../src/lib.rs");

/// What the root and the public modules export.
fn all_names() -> Vec<String> {
    let mut names = reexported(LIB);
    for file in [
        include_str!("../../src/check.rs"),
        include_str!("../../src/loader.rs"),
        include_str!("../../src/services.rs"),
        include_str!("../../src/watch.rs"),
    ] {
        names.extend(reexported(file));
        let defined = file.lines().filter_map(|line| {
            let rest = line
                .strip_prefix("pub struct ")
                .or(line.strip_prefix("pub enum "))?;
            Some(
                rest.split(|c: char| !c.is_alphanumeric())
                    .next()?
                    .to_owned(),
            )
        });
        names.extend(defined);
    }
    names
}

/// The names in each `pub use` of a file.
fn reexported(file: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let lists = file.split("pub use ").skip(1);
    let lists = lists.filter_map(|list| list.split(';').next());
    lists
        .flat_map(|list| list.split(['{', '}', ',', '\n']))
        .filter_map(|word| word.trim().rsplit("::").next())
        .filter(|word| !word.is_empty() && word.chars().all(is_name))
        .map(str::to_owned)
        .collect()
}
