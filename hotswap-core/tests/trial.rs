//! Trials and checks of an interface that is a trait, and trials of libraries. They need a `main` of their own.

#[path = "it/fixtures.rs"]
#[expect(dead_code, reason = "for the other tests")]
mod fixtures;

use std::{
    cell::RefCell,
    env,
    fs::{self, File},
    path::Path,
    process::Command,
    sync::Arc,
};

use hotswap_core::{
    Candidate, Error, HostServices, Hotswap, Settings, Stage, Trial,
    check::check,
    loader::{Library, Loader, LoaderSettings},
};
use hotswap_fixtures::{
    desk::Session,
    evolution::Visitor,
    host_services::{Clerk, Clock, Note, Store},
    logs::Logs,
    rules::Rules,
};
use hotswap_sdk::interface;

use fixtures::{SOON, plugin, trust};

fn main() {
    let trial: Trial<dyn Rules> = Trial::at_top_of_main(probe);
    let of_clerks: Trial<dyn Clerk> = Trial::at_top_of_main_with(services_of_a_trial, probe_clerk);
    let of_visitors: Trial<dyn Visitor> = Trial::at_top_of_main(|_| Ok(()));
    let of_logs: Trial<dyn Logs> = Trial::at_top_of_main(probe_logs);
    let of_libraries = Trial::of_libraries_at_top_of_main(probe_library);
    if env::var_os(BY_LINKER).is_some() {
        return load_by_linker(trial);
    }
    let mut passed = 0;
    let mut run = |name: &str, test: &dyn Fn()| {
        test();
        println!("test {name} ... ok");
        passed += 1;
    };
    run("a_candidate_is_tried_in_a_child", &|| {
        a_candidate_is_tried_in_a_child(trial)
    });
    run("a_file_is_checked", &|| a_file_is_checked(trial));
    run("a_constructor_is_tried_with_what_it_takes", &|| {
        a_constructor_is_tried_with_what_it_takes(of_clerks)
    });
    run("a_trial_has_no_services_unless_it_is_given_some", &|| {
        a_trial_has_no_services_unless_it_is_given_some(of_visitors)
    });
    run("a_plugin_logs_to_nobody_in_a_child", &|| {
        a_plugin_logs_to_nobody_in_a_child(of_logs)
    });
    run("a_library_is_tried_in_a_child", &|| {
        a_library_is_tried_in_a_child(of_libraries)
    });
    run("a_program_that_the_linker_started_runs_no_trials", &|| {
        a_program_that_the_linker_started_runs_no_trials()
    });
    println!("test result: ok. {passed} passed");
}

/// Set if the dynamic linker has started this program.
const BY_LINKER: &str = "HOTSWAP_TEST_BY_LINKER";

/// `/proc/self/exe` is then the linker, not this program.
fn a_program_that_the_linker_started_runs_no_trials() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut files = maps.lines().filter_map(|line| line.split(' ').next_back());
    let linker = files.find(|file| file.contains("/ld-")).unwrap();
    let output = Command::new(linker)
        .arg(env::current_exe().unwrap())
        .env(BY_LINKER, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let reason = "trial: it cannot be started: this program was started by way of the dynamic linker (`ld.so PROGRAM`): start it \
                  by its own path";
    assert_eq!(text.lines().collect::<Vec<_>>(), [reason; 2], "{output:?}");
}

fn load_by_linker(trial: Trial<dyn Rules>) {
    let checked = check(plugin("rules_1"), &trust(), trial).unwrap_err();
    println!("{}", checked.reason());
    let settings = Settings {
        trial: Some(trial),
        ..Settings::default()
    };
    let loaded = Hotswap::load_with(plugin("rules_1"), &trust(), settings).unwrap_err();
    println!("{}", loaded.reason());
}

fn probe(candidate: &dyn Rules) -> Result<(), String> {
    match candidate.mean(&[1.0]) {
        Some(_) => Ok(()),
        None => Err(format!("build {} knows no mean", candidate.build())),
    }
}

fn a_candidate_is_tried_in_a_child(trial: Trial<dyn Rules>) {
    let settings = Settings {
        trial: Some(trial),
        ..Settings::default()
    };
    let rules = Hotswap::load_with(plugin("rules_1"), &trust(), settings).expect("a good plugin");
    let refused = |name| {
        let error = rules.swap(plugin(name)).expect_err("a bad candidate");
        (error.stage(), error.reason())
    };
    let reason = "probe: build 2 knows no mean".to_owned();
    assert_eq!(refused("rules_2"), (Stage::Probe, reason));
    let reason = "root module: its constructor failed: no licence".to_owned();
    assert_eq!(refused("rules_fails"), (Stage::Root, reason));
    assert_eq!(refused("desk_1").0, Stage::Layout);
    assert_eq!(rules.call(|it| it.build()), Ok(1));
    assert!(rules.shutdown(SOON).iter().all(|it| it.state.has_ended()));
}

fn a_file_is_checked(trial: Trial<dyn Rules>) {
    let report = check(plugin("rules_1"), &trust(), trial).expect("a good plugin");
    assert_eq!(report.interface, "hotswap-fixtures::Rules 0.1.0");
    assert_eq!(report.name.as_deref(), Some("hotswap-fixtures"));
    assert_eq!((report.unloadable_problem, report.stays), (None, None));
    let error = check(plugin("shop_1"), &trust(), trial).expect_err("another interface");
    let reason =
        "layout: another interface: expected hotswap-fixtures::Rules, found hotswap-fixtures::Shop";
    assert_eq!(error.reason(), reason);
}

/// The child has no subscriber: nothing is formatted. What is said is not part of the refusal.
fn probe_logs(candidate: &dyn Logs) -> Result<(), String> {
    candidate.nest();
    candidate.leak();
    match (candidate.say_levels(), candidate.build()) {
        (0, 1) => Ok(()),
        (lines, build) => Err(format!("{lines} lines of build {build}")),
    }
}

fn a_plugin_logs_to_nobody_in_a_child(trial: Trial<dyn Logs>) {
    check(plugin("logs_1"), &trust(), trial).expect("a good plugin");
    let error = check(plugin("logs_2"), &trust(), trial).expect_err("another build");
    assert_eq!(error.reason(), "probe: 0 lines of build 2");
}

/// A store that forgets, and has a file open.
struct Forgetful(#[expect(dead_code, reason = "it is open")] File);

impl Forgetful {
    fn new() -> Arc<Self> {
        let file = File::open("/dev/null").expect("every system has it");
        Arc::new(Self(file))
    }
}

#[interface]
impl Store for Forgetful {
    fn get(&self, _: &str) -> Option<String> {
        None
    }

    fn put(&self, _: String, _: String) {}

    fn fail(&self) {}

    fn keep(&self, _: Box<dyn Note>) {}

    async fn wait_for(&self, key: String) -> String {
        key
    }
}

/// A clock.
struct Stopped(u64);

impl Clock for Stopped {
    fn now(&self) -> u64 {
        self.0
    }
}

/// What the plugin finds in the child.
fn services_of_a_trial() -> HostServices {
    HostServices::new()
        .with::<dyn Clock>(Arc::new(Stopped(1)))
        .with::<dyn Store>(Forgetful::new())
}

/// The children pass what they were given back as a refusal.
fn probe_clerk(clerk: &dyn Clerk) -> Result<(), String> {
    let config = clerk.config();
    match (clerk.now(), config.strip_prefix("say ")) {
        (Some(1), None) => Ok(()),
        (now, _) => Err(format!("{now:?}, {} bytes", config.len())),
    }
}

fn a_constructor_is_tried_with_what_it_takes(trial: Trial<dyn Clerk>) {
    let services = HostServices::new()
        .with::<dyn Clock>(Arc::new(Stopped(2)))
        .with::<dyn Store>(Forgetful::new());
    let settings = Settings {
        trial: Some(trial),
        host_services: services,
        ..Settings::default()
    };
    let candidate = |config: &str| Candidate::new(plugin("clerk_1")).with_config(config);
    let clerk = Hotswap::load_with(candidate("first"), &trust(), settings).expect("a good plugin");
    assert_eq!(clerk.call(|it| it.now()), Ok(Some(2)), "the host's own");
    let refused = |error: Error| error.reason();
    // Longer than a message of the trial, also by one byte, and empty.
    for length in [4, 64 * 1024 - 1, 64 * 1024, 200_000] {
        let config = format!("say {}", "x".repeat(length - 4));
        let expected = format!("probe: Some(1), {length} bytes");
        let error = clerk.swap(candidate(&config)).expect_err("the probe");
        assert_eq!(refused(error), expected);
        // A configuration alone is tried, too.
        let error = clerk.swap_config(&*config).expect_err("the probe");
        assert_eq!(refused(error), expected);
    }
    clerk.swap(candidate("")).expect("no configuration");
    let error = clerk.swap_config("refuse").expect_err("the constructor");
    assert_eq!(
        refused(error),
        "root module: its constructor failed: it is asked to refuse"
    );
    let error = check(candidate("refuse"), &trust(), trial).expect_err("the constructor");
    assert_eq!(
        refused(error),
        "root module: its constructor failed: it is asked to refuse"
    );
    // What the services have open is not taken for the plugin's, also if they stay because the plugin does.
    let report = check(candidate("stay"), &trust(), trial).expect("a good plugin");
    assert!(report.stays.is_some());
}

fn a_trial_has_no_services_unless_it_is_given_some(trial: Trial<dyn Visitor>) {
    let error = check(plugin("visitor_1"), &trust(), trial).expect_err("no shop");
    assert_eq!(
        error.reason(),
        "layout: its constructor takes the host service hotswap-fixtures::Shop, which the trial does not have \
         (`Trial::at_top_of_main_with`)"
    );
}

#[hotswap_sdk::function]
type Greet = fn(name: &str) -> String;

#[hotswap_sdk::function]
type Open = fn(user: &str) -> Result<Box<dyn Session>, String>;

/// Greets, and keeps an object if there is one.
fn probe_library(library: &Library) -> Result<(), String> {
    thread_local! {
        static KEPT: RefCell<Option<Box<dyn Session>>> = const { RefCell::new(None) };
    }
    let greet: Greet = library
        .function("greet")
        .map_err(|error| error.to_string())?;
    let greeting = greet.call("you").map_err(|fault| fault.to_string())?;
    if let Ok(open) = library.function::<Open>("open") {
        let session = open.call("Ada").map_err(|fault| fault.to_string())??;
        KEPT.set(Some(session));
    }
    match greeting.split_once(' ') {
        Some((_, "you")) => Ok(()),
        _ => Err(format!("it greets nobody: {greeting}")),
    }
}

fn a_library_is_tried_in_a_child(trial: Trial<Library>) {
    let settings = LoaderSettings {
        trial: Some(trial),
        ..LoaderSettings::default()
    };
    let loader = Loader::with_settings(&trust(), settings).expect("a thread");
    let load = |path: &Path| loader.function::<Greet>(path, "greet");
    let greet = load(&plugin("functions_1")).expect("a good library");
    assert_eq!(greet.call("Rust"), Ok("Hello Rust".to_owned()));
    let error = load(&plugin("functions_2")).expect_err("its object is kept");
    assert_eq!(error.reason(), "probe: the probe has kept the library");
}
