//! What debuggers and profilers see of plugins.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use hotswap_core::{Backtrace, HostServices, Hotswap, Settings, State};
use hotswap_fixtures::host_services::{Clerk, Note, Store};
use hotswap_sdk::interface;

use crate::{
    alone::alone,
    fixtures::{SOON, build_of, load, plugin, trust},
};

/// The names of the memory files that are mapped as code, sorted.
fn mapped_names() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let code = maps.lines().filter(|line| line.contains(" r-xp "));
    let mut names: Vec<_> = code
        .filter_map(|line| Some(line.split_once("/memfd:")?.1.to_owned()))
        .collect();
    names.sort();
    names
}

#[test]
fn each_generation_is_mapped_under_its_file_s_name_and_build_id() {
    alone(
        "debugging::each_generation_is_mapped_under_its_file_s_name_and_build_id",
        || {
            let it = load("build_1");
            let lease = it.lease();
            it.swap(plugin("build_2")).unwrap();
            assert_eq!(build_of(&it), 2);
            let name = |generation: &hotswap_core::GenerationInfo| {
                let stem = generation.path.file_stem().unwrap().to_str().unwrap();
                let id = generation.build_id.as_ref().expect("the linker writes one");
                format!("{stem}-{} (deleted)", &id[..8])
            };
            let names: Vec<_> = it.generations().iter().map(name).collect();
            assert!(names[0].starts_with("libbuild_1-"), "{names:?}");
            assert_eq!(mapped_names(), names);
            drop(lease);
        },
    );
}

/// A host service that takes the stack of whoever calls it, and lets std show it.
#[derive(Default)]
struct Traces(Mutex<Vec<Backtrace>>, Mutex<String>);

#[interface]
impl Store for Traces {
    fn get(&self, _: &str) -> Option<String> {
        self.0.lock().unwrap().push(Backtrace::capture());
        *self.1.lock().unwrap() = std::backtrace::Backtrace::force_capture().to_string();
        None
    }

    fn put(&self, _: String, _: String) {}

    fn fail(&self) {}

    fn keep(&self, _: Box<dyn Note>) {}

    async fn wait_for(&self, _: String) -> String {
        String::new()
    }
}

/// A host with such a service, and the first build.
fn traced() -> (Arc<Traces>, Hotswap<dyn Clerk>) {
    let traces = Arc::<Traces>::default();
    let settings = Settings {
        host_services: HostServices::new().with::<dyn Store>(Arc::clone(&traces) as _),
        ..Settings::default()
    };
    let clerk = Hotswap::load_with(plugin("clerk_1"), &trust(), settings).unwrap();
    (traces, clerk)
}

/// The builds alternate, so that each has addresses that the other had before.
#[test]
fn a_backtrace_names_the_frames_of_the_generation_that_they_are_of() {
    let (traces, clerk) = traced();
    for generation in 1..=4 {
        let (build, other) = if generation % 2 == 1 { (1, 2) } else { (2, 1) };
        assert_eq!(clerk.call(|it| it.get("any")).unwrap(), None);
        let trace = traces.0.lock().unwrap().pop().unwrap();
        let shown = trace.to_string();
        let place = format!("in generation {generation} of libclerk_{build}.so, at offset 0x");
        for expected in [
            &*place,
            &format!("<clerk_{build}::"),
            "debugging::Traces as hotswap_fixtures::host_services::Store>::get",
            "debugging.rs:",
            "build id ",
        ] {
            assert!(shown.contains(expected), "no `{expected}`:\n{shown}");
        }
        assert!(
            !shown.contains(&format!("clerk_{other}")) && !shown.contains("<unloaded>"),
            "the other build:\n{shown}"
        );

        clerk.swap(plugin(&format!("clerk_{other}"))).unwrap();
        assert_eq!(clerk.wait(generation, SOON), Some(State::Unloaded));
        let shown = trace.to_string();
        assert!(shown.contains("<unloaded>"), "{shown}");
        assert!(shown.contains(&place), "{shown}");
        assert!(
            !shown.contains("clerk_1::") && !shown.contains("clerk_2::"),
            "a name of an image that is gone:\n{shown}"
        );
    }
}

/// Why there is a backtrace of our own. If this fails, std has learned to look again, and the manual has to say so.
#[test]
fn std_does_not_name_what_was_swapped_in() {
    alone("debugging::std_does_not_name_what_was_swapped_in", || {
        let (traces, clerk) = traced();
        let shown = || {
            assert_eq!(clerk.call(|it| it.get("any")).unwrap(), None);
            traces.1.lock().unwrap().clone()
        };
        let first = shown();
        assert!(first.contains("<clerk_1::Plugin as "), "{first}");
        for generation in 1..=3 {
            clerk.swap(plugin("clerk_2")).unwrap();
            assert_eq!(clerk.wait(generation, SOON), Some(State::Unloaded));
            let later = shown();
            assert!(!later.contains("<clerk_2::Plugin as "), "{later}");
        }
    });
}
