//! The plugins of the tests, built once, and loaded.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hotswap_core::{Error, EventKind, GenerationInfo, Hotswap, Policy, Settings, State, Trust};
use hotswap_fixtures::FixtureRef;
use hotswap_sdk::host::Interface;

/// Long enough for anything that must happen, on any machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) type Plugin = Hotswap<FixtureRef>;

/// Plugins without `unloadable!`, which leave all the same, unless the system does not show the keys of threads.
const PLAIN: [&str; 19] = [
    "build_1",
    "build_2",
    "changed_type",
    "closes_a_descriptor",
    "failing_constructor",
    "leaks_a_descriptor",
    "measured_raw",
    "other_tables",
    "panicking",
    "panicking_constructor",
    "removed_field",
    "root_module_1",
    "root_module_2",
    "root_module_3",
    "root_module_mixed",
    "root_module_other",
    "suffix_field",
    "thread_local_with_drop",
    "wrong_answer",
];

/// The path of a plugin of `tests/fixtures/examples`. Where one without `unloadable!` could not leave, it has that.
pub(crate) fn plugin(name: &str) -> PathBuf {
    static UNLOADABLE: LazyLock<PathBuf> = LazyLock::new(|| {
        let mut options = vec!["--features", "unloadable"];
        options.extend(PLAIN.iter().flat_map(|name| ["--example", name]));
        build("unloadable", &options)
    });
    if PLAIN.contains(&name) && !shows_keys() {
        return UNLOADABLE.join(format!("lib{name}.so"));
    }
    plain_plugin(name)
}

/// The path of a plugin of `tests/fixtures/examples`, as it is.
pub(crate) fn plain_plugin(name: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| build("", &["--examples"]));
    FOLDER.join(format!("lib{name}.so"))
}

/// Whether this system shows the keys of threads: glibc does since 2.34. Until then, what may have made keys stays
/// mapped, unless it is a plugin with `unloadable!`.
pub(crate) fn shows_keys() -> bool {
    has_glibc(34)
}

/// Whether the C library is glibc 2.`minor` or newer.
pub(crate) fn has_glibc(minor: u32) -> bool {
    // SAFETY: no conditions.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: it is a constant text of the C library.
    let version = unsafe { std::ffi::CStr::from_ptr(version) };
    let its = version.to_str().unwrap().strip_prefix("2.").unwrap();
    its.split('.').next().unwrap().parse::<u32>().unwrap() >= minor
}

/// Builds plugins, in a folder of the target folder. `HOTSWAP_FIXTURES` names a folder with those that were built
/// otherwise (`scripts/matrix`).
fn build(folder: &str, options: &[&str]) -> PathBuf {
    if let Some(folder) = std::env::var_os("HOTSWAP_FIXTURES") {
        return folder.into();
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("cargo makes it `target/tmp`")
        .join(folder);
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "hotswap-fixtures"])
        .args(options)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("CARGO_BUILD_TARGET")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the fixtures do not build");
    target.join("debug/examples")
}

/// Whoever owns the folder that all this was checked out into. (`trust` tests what is asked by default.)
pub(crate) fn trust() -> Trust {
    trust_with(|policy| policy.any_owner = true)
}

pub(crate) fn trust_with(change: impl FnOnce(&mut Policy)) -> Trust {
    let mut policy = Policy::default();
    change(&mut policy);
    // SAFETY: the files are our own fixtures, and files that are refused.
    unsafe { Trust::vouch(policy) }
}

pub(crate) fn load(name: &str) -> Plugin {
    load_with(name, |_| {})
}

pub(crate) fn load_with(name: &str, change: impl FnOnce(&mut Settings<FixtureRef>)) -> Plugin {
    let mut settings = Settings::default();
    change(&mut settings);
    Hotswap::load_with(plugin(name), &trust(), settings).expect("a good plugin")
}

/// Says that it is time to stop when a test ends, also when it fails: what waits for threads that go on until
/// then would wait for ever.
pub(crate) struct StopAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The build that the live generation says it is, by both its exports.
pub(crate) fn build_of(plugin: &Plugin) -> u64 {
    let (a, b) = plugin.with(|it| (it.build_a()(), it.build_b()()));
    assert_eq!(a, b);
    a
}

/// Waits until a generation has left, and insists that it has.
#[track_caller]
pub(crate) fn unloaded(plugin: &Plugin, generation: u64) {
    assert_eq!(
        plugin.wait(generation, SOON),
        Some(State::Unloaded),
        "generation {generation}"
    );
}

/// The entry of a generation.
pub(crate) fn generation(plugin: &Plugin, number: u64) -> GenerationInfo {
    generation_of(plugin, number)
}

/// The entry of a generation of any interface.
pub(crate) fn generation_of<I: Interface + ?Sized>(
    plugin: &Hotswap<I>,
    number: u64,
) -> GenerationInfo {
    let mut all = plugin.generations().into_iter();
    all.find(|it| it.number == number).expect("in the list")
}

/// Swaps `name` in, which must be refused and change nothing; gives the error and its one line.
#[track_caller]
pub(crate) fn refused(plugin: &Plugin, path: impl AsRef<Path>) -> (Error, String) {
    let before = build_of(plugin);
    let generations = plugin.generations().len();
    let events = plugin.events();
    let error = plugin.swap(&path).expect_err("a bad candidate");
    assert_eq!(error.path(), path.as_ref());
    assert_eq!(build_of(plugin), before, "the running generation serves on");
    assert_eq!(
        plugin.generations().len(),
        generations,
        "it takes no number"
    );
    let event = events.try_iter().last().expect("an event for it");
    let EventKind::Refused {
        stage,
        reason,
        live,
        ..
    } = event.kind
    else {
        panic!("not a refusal")
    };
    assert_eq!(reason, error.reason());
    assert_eq!(stage, error.stage());
    assert!(live.is_some());
    assert!(!reason.contains('\n'), "one line: {reason}");
    let reason = whole_reason(&error);
    (error, reason)
}

/// The reason, and the setting that decides it.
pub(crate) fn whole_reason(error: &Error) -> String {
    let reason = error.reason();
    match error.setting() {
        Some(setting) => format!("{reason} ({setting})"),
        None => reason,
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < SOON, "it does not become so");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many copies of plugins are mapped.
pub(crate) fn mapped_copies() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|it| it.contains("memfd:")).count()
}
