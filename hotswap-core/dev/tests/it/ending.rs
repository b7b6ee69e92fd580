//! What is left of a loop that was dropped.

use std::{fs::File, io::Read};

use crate::workspace::{Workspace, built};

#[test]
fn a_build_that_runs_ends_with_all_its_processes() {
    let workspace = Workspace::new();
    workspace.write_gated_script();
    workspace.write("gate", "");
    let dev = workspace.start();
    // Opened: the script waits, and does not end by itself.
    let mut alive = File::open(workspace.path("alive")).unwrap();
    drop(dev);
    // The pipe is closed: the script has ended. Cargo was waited for.
    assert_eq!(alive.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert!(workspace.path("gate").exists());
    // Another loop goes on from there.
    std::fs::remove_file(workspace.path("gate")).unwrap();
    built(&workspace.start(), "0");
}

#[test]
fn an_idle_loop_ends() {
    let workspace = Workspace::new();
    let dev = workspace.start();
    built(&dev, "0");
    let builds = dev.builds().clone();
    drop(dev);
    assert!(builds.recv().is_err());
}
