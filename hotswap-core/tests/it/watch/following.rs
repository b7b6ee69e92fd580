//! What is watched when others swap too, and how watching ends.

use std::{
    env, fs,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use hotswap_core::{EventKind, Settings, watch::Watch};
use hotswap_fixtures::FixtureRef;
use tempfile::TempDir;

use super::watched::{NEVER, Reads, Watched, put, settings};
use crate::{
    alone::alone,
    backlog::{BACKLOG, gate},
    fixtures::{Plugin, SOON, build_of, trust},
};

const SHORT: Duration = Duration::from_millis(20);

fn plugin_so(folder: &Path) {
    put(&folder.join("plugin.so"), "build_1");
}

#[test]
fn another_path_that_is_swapped_in_by_hand_is_watched_from_then_on() {
    let it = Watched::new();
    it.put("other.so", "build_2");
    let reads = Reads::of(it.folder.path(), "other.so");
    it.it.swap(it.at("other.so")).unwrap();
    it.accepts(2);
    reads.after(|| it.put("other.so", "build_2"));
    assert_eq!(it.it.last_accepted(), it.at("other.so"));
    // What was watched before is not.
    it.put("plugin.so", "suffix_field");
    it.put("other.so", "build_1");
    it.accepts(1);
    // A refused path is not watched either.
    it.it.swap(it.at("none.so")).unwrap_err();
    it.refuses();
    it.put("none.so", "suffix_field");
    it.put("other.so", "build_2");
    it.accepts(2);
}

#[test]
fn a_change_that_was_swapped_in_by_hand_is_not_swapped_in_again() {
    let it = Watched::new();
    for (name, build) in [("build_2", 2), ("build_1", 1), ("suffix_field", 3)] {
        it.put("plugin.so", name);
        it.it.swap(it.at("plugin.so")).unwrap();
        // Either the watch was first, and the other was the same once more, or there was one swap.
        it.events.try_iter().for_each(drop);
        assert_eq!(build_of(&it.it), build);
    }
    let before = it.it.generations().last().unwrap().number;
    let reads = Reads::of(it.folder.path(), "plugin.so");
    reads.after(|| it.put("plugin.so", "suffix_field"));
    it.put("plugin.so", "build_2");
    let event = it.next();
    assert!(matches!(event.kind, EventKind::Accepted { .. }), "{event}");
    assert_eq!(event.generation, Some(before + 1));
}

#[test]
fn a_rollback_is_not_undone_until_the_file_changes() {
    let it = Watched::new();
    it.put("plugin.so", "build_2");
    it.accepts(2);
    it.it.rollback().unwrap();
    assert_eq!(build_of(&it.it), 1);
    let reads = Reads::of(it.folder.path(), "plugin.so");
    reads.after(|| it.put("plugin.so", "build_2"));
    it.put("plugin.so", "suffix_field");
    it.accepts(3);
}

/// It goes on with the file to which the rollback went, and not with the one that is watched.
#[test]
fn a_configuration_does_not_undo_a_rollback() {
    let it = Watched::new();
    it.put("plugin.so", "build_2");
    it.accepts(2);
    it.it.rollback().unwrap();
    let reads = Reads::of(it.folder.path(), "plugin.so");
    reads.after(|| {
        it.it.swap_config("another").unwrap();
    });
    it.accepts(1);
    it.put("plugin.so", "suffix_field");
    it.accepts(3);
    assert_eq!(it.it.last_accepted(), it.at("plugin.so"));
}

#[test]
fn a_change_that_was_refused_is_tried_again_with_another_configuration() {
    let it = Watched::new();
    it.put("plugin.so", "removed_field");
    it.refuses();
    it.it.swap_config("another").unwrap();
    it.accepts(1);
    it.refuses();
    it.put("plugin.so", "build_2");
    it.accepts(2);
}

#[test]
fn a_relative_path_is_watched_where_it_was_given() {
    alone(
        "watch::following::a_relative_path_is_watched_where_it_was_given",
        || {
            let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
            plugin_so(folder.path());
            put(&other.path().join("plugin.so"), "build_2");
            env::set_current_dir(folder.path()).unwrap();
            let it: Arc<Plugin> = Arc::new(Plugin::load("./plugin.so", &trust()).unwrap());
            env::set_current_dir(other.path()).unwrap();
            let watch = it.watch(settings(SHORT, NEVER)).unwrap();
            put(&folder.path().join("plugin.so"), "suffix_field");
            let event = it.events().iter().find(|event| {
                matches!(event.kind, EventKind::Accepted { .. }) && event.generation == Some(2)
            });
            assert_eq!(
                event.unwrap().to_string(),
                "accepted generation 2: ./plugin.so"
            );
            assert_eq!(build_of(&it), 3);
            drop(watch);
        },
    );
}

type OnProbe = Box<dyn FnOnce() + Send>;

/// A watched plugin, and a callback that runs once, when build 2 is probed: after its file was read and before it is
/// published.
fn with_probe_callback() -> (Watched, Arc<Mutex<Option<OnProbe>>>) {
    let on_probe: Arc<Mutex<Option<OnProbe>>> = Arc::default();
    let run = Arc::clone(&on_probe);
    let change = move |settings: &mut Settings<FixtureRef>| {
        settings.probe = Some(Arc::new(move |candidate, _| {
            if candidate.build_a()() == 2
                && let Some(on_probe) = run.lock().unwrap().take()
            {
                on_probe();
            }
            Ok(())
        }));
    };
    let mut it = Watched::unwatched("plugin.so", &trust(), change, plugin_so);
    it.watch(settings(SHORT, NEVER));
    (it, on_probe)
}

#[test]
fn a_change_during_a_swap_is_not_missed() {
    let (it, on_probe) = with_probe_callback();
    let path = it.at("plugin.so");
    *on_probe.lock().unwrap() = Some(Box::new(move || put(&path, "suffix_field")));
    it.put("plugin.so", "build_2");
    it.accepts_any();
    it.accepts(3);
}

#[test]
fn a_swap_by_hand_to_another_path_is_not_overtaken_by_a_change_meanwhile() {
    let (it, on_probe) = with_probe_callback();
    let (path, reads) = (it.at("plugin.so"), Reads::of(it.folder.path(), "plugin.so"));
    it.put("other.so", "build_2");
    *on_probe.lock().unwrap() = Some(Box::new(move || {
        reads.after(|| put(&path, "suffix_field"));
    }));
    it.it.swap(it.at("other.so")).unwrap();
    it.accepts(2);
    it.put("other.so", "build_1");
    it.accepts(1);
}

#[test]
fn what_has_waited_for_room_and_is_not_followed_any_more_is_not_refused() {
    alone(
        "watch::following::what_has_waited_for_room_and_is_not_followed_any_more_is_not_refused",
        || {
            let (arrived, go_on) = gate();
            let change = |settings: &mut Settings<FixtureRef>| {
                // Until then, the other file has to be swapped in.
                settings.limits.unload_timeout = Duration::from_secs(10);
            };
            let it = Watched::unwatched("plugin.so", &trust(), change, plugin_so);
            let swap = |path: &Path| {
                // Nobody waits for room inside of a call.
                assert!(it.it.with(|_| it.it.swap(path).is_ok()));
                it.accepts_any();
            };
            swap(&it.at("plugin.so"));
            arrived.recv_timeout(SOON).unwrap();
            (0..BACKLOG).for_each(|_| swap(&it.at("plugin.so")));
            it.put("other.so", "build_1");
            let watch = it.it.watch(settings(SHORT, NEVER)).unwrap();
            let reads = Reads::of(it.folder.path(), "plugin.so");
            reads.after(|| it.put("plugin.so", "build_2"));
            swap(&it.at("other.so"));
            // That one is followed now, once the watch has waited in vain for the first.
            let reads = Reads::of(it.folder.path(), "other.so");
            reads.after(|| it.put("other.so", "build_2"));
            drop((arrived, go_on));
            it.accepts_any();
            drop(watch);
            assert!(it.it.refused().is_empty());
        },
    );
}

/// The names of this process's threads.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm"));
    let names = tasks.filter_map(|task| name(task.unwrap()).ok());
    names.map(|name| name.trim_end().to_owned()).collect()
}

/// Nobody waits for `notify`'s.
#[track_caller]
fn threads_end(beginning: &str) {
    let started = Instant::now();
    while threads().iter().any(|name| name.starts_with(beginning)) {
        assert!(started.elapsed() < SOON, "{:?}", threads());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn nothing_is_swapped_in_when_watching_has_ended() {
    alone(
        "watch::following::nothing_is_swapped_in_when_watching_has_ended",
        || {
            let mut it = Watched::new();
            it.put("plugin.so", "build_2");
            it.accepts(2);
            assert!(threads().contains(&"hotswap-watch".to_owned()));
            drop(it.watch.take());
            // The system may list a thread for a moment after it was joined.
            threads_end("hotswap-watch");
            threads_end("notify");
            it.put("plugin.so", "suffix_field");
            it.watch(settings(SHORT, NEVER));
            it.accepts(3);
        },
    );
}

#[test]
fn watching_ends_with_the_swap_point() {
    alone(
        "watch::following::watching_ends_with_the_swap_point",
        || {
            let mut it = Watched::new();
            it.put("plugin.so", "build_2");
            it.accepts(2);
            let watch = it.watch.take();
            let plugin = Arc::clone(&it.it);
            drop(it);
            assert!(threads().contains(&"hotswap-watch".to_owned()));
            drop(plugin);
            threads_end("hotswap-watch");
            threads_end("notify");
            drop(watch);
        },
    );
}

#[test]
fn a_watch_can_go_to_another_thread() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Watch>();
}
