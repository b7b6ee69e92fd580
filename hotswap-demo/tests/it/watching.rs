//! Swaps that nobody types: by `--watch`, and by SIGHUP.

use std::{fs, path::Path};

use rustix::process::Signal;

use crate::demo::{Demo, plugin};

/// Gives the path to a copy of a plugin, at once.
fn put(path: &Path, name: &str) {
    let new = path.with_extension("new");
    fs::copy(plugin(name), &new).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn with_watch_a_changed_file_is_swapped_in_also_after_the_end_of_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    put(&path, "shipped");
    let mut demo = Demo::start(&["--watch"], &path);
    demo.says("accepted generation 1: ");
    put(&path, "other");
    demo.says("accepted generation 2: ");
    demo.prints_soon("Adding to 20: 27");
    demo.end_input();
    fs::write(folder.path().join("text"), "Hello").unwrap();
    fs::rename(folder.path().join("text"), &path).unwrap();
    let refused = demo.says("refused");
    assert!(
        refused.starts_with(&format!("refused {}: inspect: ", path.display())),
        "{refused}"
    );
    assert!(refused.ends_with("; generation 2 stays live"), "{refused}");
    put(&path, "shipped");
    demo.says("accepted generation 3: ");
    demo.prints_soon("Adding to 10: 17");
    demo.signal(Signal::TERM);
    let (code, err) = demo.ends();
    assert_eq!(code, Some(0));
    assert!(
        err.last()
            .unwrap()
            .starts_with("unloaded generation 3 after "),
        "{err:?}"
    );
}

#[test]
fn with_watch_a_path_that_is_typed_is_watched_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    put(&path, "other");
    let mut demo = Demo::with_options(&["--watch"], "shipped");
    demo.type_line(&path);
    demo.says("accepted generation 2: ");
    put(&path, "slow");
    demo.says(&format!("accepted generation 3: {}", path.display()));
    demo.type_line(":quit");
    assert_eq!(demo.ends().0, Some(0));
}

#[test]
fn sighup_does_what_reload_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    put(&path, "shipped");
    // As a service: nobody types anything.
    let demo = Demo::start(&["--no-stdin"], &path);
    demo.says("accepted generation 1: ");
    put(&path, "other");
    demo.signal(Signal::HUP);
    demo.says("accepted generation 2: ");
    demo.prints_soon("Adding to 20: 27");
    fs::remove_file(&path).unwrap();
    demo.signal(Signal::HUP);
    assert_eq!(
        demo.says("refused"),
        format!(
            "refused {}: open: no such file; generation 2 stays live",
            path.display()
        )
    );
    demo.signal(Signal::TERM);
    assert_eq!(demo.ends().0, Some(0));
}
