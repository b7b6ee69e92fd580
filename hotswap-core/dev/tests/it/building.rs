//! What leads to a build, and what it gives.

use std::{fs, io::Write};

use hotswap_dev::{Build, DevLoop, DevSettings, build};

use crate::workspace::{Workspace, built, built_at_last, check_says, failed, next};

const CODE: &str = "plugin/src/lib.rs";

#[test]
fn each_edit_is_one_build_also_after_a_broken_one() {
    let workspace = Workspace::new();
    let dev = workspace.start();
    assert_eq!(dev.package(), "plugin");
    let path = built(&dev, "0");
    assert_eq!(path, workspace.path("target/debug/libplugin.so"));
    workspace.change(CODE, "says: 0", "says: 1");
    assert_eq!(built(&dev, "1"), path);

    let good = workspace.read(CODE);
    workspace.write(CODE, &good.replace("pointer(", "pointer(7, "));
    let rendered = failed(&dev);
    assert!(
        rendered.starts_with("error[E0061]: this function takes 1 argument"),
        "{rendered}"
    );
    assert!(
        rendered.contains("\n --> plugin/src/lib.rs:3:5\n"),
        "{rendered}"
    );
    let end = "error: could not compile `plugin` (lib) due to 1 previous error\n";
    assert!(rendered.ends_with(end), "{rendered}");
    check_says(&path, "1");

    workspace.write(CODE, &good.replace("says: 1", "says: 2"));
    built(&dev, "2");
}

#[test]
fn a_plugin_is_built_once() {
    let workspace = Workspace::new();
    let path = build(workspace.settings()).unwrap();
    check_says(&path, "0");
    workspace.change(CODE, "pointer(", "pointer(7, ");
    let error = build(workspace.settings()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("plugin does not build:\nerror[E0061]"),
        "{text}"
    );
}

#[test]
fn warnings_come_with_the_plugin() {
    let workspace = Workspace::new();
    workspace.write(CODE, &format!("fn unused() {{}}\n{}", workspace.read(CODE)));
    match next(&workspace.start()) {
        Build::Built { rendered, .. } => {
            assert!(
                rendered.starts_with("warning: function `unused` is never used"),
                "{rendered}"
            );
        }
        build => panic!("{build:?}"),
    }
}

#[test]
fn colours_are_as_asked_for() {
    let workspace = Workspace::new();
    workspace.write(CODE, "nothing");
    let settings = DevSettings {
        color: true,
        ..workspace.settings()
    };
    let rendered = failed(&DevLoop::start(settings).unwrap());
    assert!(rendered.contains("\x1b["), "{rendered}");
    let rendered = failed(&workspace.start());
    assert!(!rendered.contains('\x1b'), "{rendered}");
}

/// What is saved while the compiler runs is not lost, and not built twice.
#[test]
fn saving_during_a_build_leads_to_exactly_one_more() {
    let workspace = Workspace::new();
    workspace.write_gated_script();
    let dev = workspace.start();
    built(&dev, "0");
    workspace.write("gate", "");
    workspace.change(CODE, "says: 0", "says: 1");
    // Opened: the script waits.
    let alive = fs::File::open(workspace.path("alive")).unwrap();
    workspace.change(CODE, "says: 1", "says: 2");
    workspace.write(CODE, &workspace.read(CODE).replace("says: 2", "says: 3"));
    fs::remove_file(workspace.path("gate")).unwrap();
    drop(alive);
    // Whether the compiler has read what was there before it began, or what was saved then: both are whole.
    assert!(matches!(next(&dev), Build::Built { .. }));
    built(&dev, "3");
    workspace.change(CODE, "says: 3", "says: 4");
    built(&dev, "4");
}

#[test]
fn what_it_depends_on_by_path_is_watched_also_when_it_is_new() {
    let workspace = Workspace::new();
    let dev = workspace.start();
    built(&dev, "0");
    workspace.change("shared/src/lib.rs", "text.as_ptr()", "text[1..].as_ptr()");
    built(&dev, "0");
    // A module in a folder of its own.
    workspace.write(
        "plugin/src/a/b.rs",
        "pub const TEXT: &str = \"it says: 1\";\n",
    );
    assert!(matches!(next(&dev), Build::Unchanged { .. }));
    let code = workspace.read(CODE).replace("\"it says: 0\"", "b::TEXT");
    workspace.write(CODE, &format!("#[path = \"a/b.rs\"]\nmod b;\n{code}"));
    built(&dev, "1");
    workspace.change("plugin/src/a/b.rs", "says: 1", "says: 2");
    built(&dev, "2");
    // A package.
    let manifest = "[package]\nname = \"other\"\nedition = \"2024\"\n";
    workspace.write("other/Cargo.toml", manifest);
    workspace.write(
        "other/src/lib.rs",
        "pub const TEXT: &str = \"it says: 3\";\n",
    );
    workspace.change("Cargo.toml", "\"host\"", "\"host\", \"other\"");
    let manifest = workspace.read("plugin/Cargo.toml");
    let manifest = format!("{manifest}other.path = \"../other\"\n");
    workspace.write("plugin/Cargo.toml", &manifest);
    workspace.change("plugin/src/a/b.rs", "\"it says: 2\"", "other::TEXT");
    built_at_last(&dev, "3");
    workspace.change("other/src/lib.rs", "says: 3", "says: 4");
    built_at_last(&dev, "4");
}

/// As many editors save.
#[test]
fn a_file_may_be_written_in_steps() {
    let workspace = Workspace::new();
    let dev = workspace.start();
    built(&dev, "0");
    let text = workspace.read(CODE).replace("says: 0", "says: 1");
    let (begin, end) = text.split_at(text.len() / 2);
    let mut file = fs::File::create(workspace.path(CODE)).unwrap();
    file.write_all(begin.as_bytes()).unwrap();
    file.write_all(end.as_bytes()).unwrap();
    drop(file);
    built_at_last(&dev, "1");
    // Moved away, and written anew.
    fs::rename(workspace.path(CODE), workspace.path("plugin/src/lib.rs~")).unwrap();
    fs::write(workspace.path(CODE), text.replace("says: 1", "says: 2")).unwrap();
    built_at_last(&dev, "2");
}

#[test]
fn a_broken_manifest_is_said_and_repaired() {
    let workspace = Workspace::new();
    let dev = workspace.start();
    built(&dev, "0");
    workspace.change("plugin/Cargo.toml", "cdylib\"]", "cdylib\"");
    let rendered = failed(&dev);
    assert!(rendered.starts_with("error: "), "{rendered}");
    assert!(rendered.contains(" --> plugin/Cargo.toml:"), "{rendered}");
    workspace.change("plugin/Cargo.toml", "cdylib\"", "cdylib\"]");
    assert!(matches!(next(&dev), Build::Unchanged { .. }));
}

/// The host turns on a feature of what both depend on.
#[test]
fn nothing_is_compiled_twice() {
    let workspace = Workspace::new();
    assert!(workspace.cargo(&["build", "--target-dir", "target"]));
    let libraries = || {
        let deps = fs::read_dir(workspace.path("target/debug/deps")).unwrap();
        let names = deps.map(|it| it.unwrap().file_name().into_string().unwrap());
        names
            .filter(|it| it.starts_with("libshared-") && it.ends_with(".rlib"))
            .count()
    };
    assert_eq!(libraries(), 1);
    built(&workspace.start(), "0");
    assert_eq!(libraries(), 1);
    let settings = DevSettings {
        host: None,
        ..workspace.settings()
    };
    built(&DevLoop::start(settings).unwrap(), "0");
    assert_eq!(libraries(), 2, "the host is not needed for that");
}

#[test]
fn arguments_are_for_cargo() {
    let workspace = Workspace::new();
    let mut settings = workspace.settings();
    settings.host = Some("not-of-this-workspace".to_owned());
    settings.cargo_args.push("--release".into());
    // In a folder that is watched.
    settings.cargo_args[2] = workspace.path("plugin/built").into();
    let dev = DevLoop::start(settings).unwrap();
    let path = built(&dev, "0");
    assert_eq!(path, workspace.path("plugin/built/release/libplugin.so"));
    workspace.change(CODE, "says: 0", "says: 1");
    built(&dev, "1");
}
