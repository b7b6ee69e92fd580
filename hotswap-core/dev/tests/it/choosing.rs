//! Which package is the plugin.

use std::path::Path;

use hotswap_dev::{DevLoop, DevSettings};

use crate::workspace::Workspace;

#[track_caller]
fn check(folder: &Path, package: Option<&str>, message: &str) {
    let settings = DevSettings {
        package: package.map(str::to_owned),
        folder: folder.to_owned(),
        ..DevSettings::default()
    };
    let error = DevLoop::start(settings).expect_err(message);
    assert!(error.to_string().starts_with(message), "{error}");
    // As `main` shows it.
    assert_eq!(format!("{error:?}"), error.to_string());
}

#[test]
fn there_must_be_one() {
    let workspace = Workspace::new();
    let folder = workspace.path("host");
    check(
        &folder,
        Some("hots"),
        "no plugin is called hots; expected plugin",
    );
    check(
        &folder,
        Some("host"),
        "no plugin is called host; expected plugin",
    );
    workspace.write(
        "shared/Cargo.toml",
        &format!(
            "{}[lib]\ncrate-type = [\"lib\", \"cdylib\"]\n",
            workspace.read("shared/Cargo.toml")
        ),
    );
    check(
        &folder,
        None,
        "expected one plugin, found plugin, shared; name one",
    );
    let expected = "no plugin is called host; expected plugin or shared";
    check(&folder, Some("host"), expected);
    workspace.change("shared/Cargo.toml", "cdylib", "rlib");
    workspace.change("plugin/Cargo.toml", "cdylib", "rlib");
    let root = workspace.path("");
    let expected = format!(
        "no package in {} is a plugin: a plugin has `[lib]` with `crate-type = [\"cdylib\"]`",
        root.display().to_string().trim_end_matches('/')
    );
    check(&folder, None, &expected);
    let expected = "package plugin is no plugin: a plugin has `[lib]` with";
    check(&folder, Some("plugin"), expected);
}

#[test]
fn a_workspace_that_cannot_be_read_is_an_error_of_cargo() {
    let folder = tempfile::tempdir().unwrap();
    let said = "cargo cannot read the workspace: error: could not find `Cargo.toml` in ";
    check(folder.path(), None, said);
}
