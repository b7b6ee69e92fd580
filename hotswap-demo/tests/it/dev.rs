//! `--dev`, on workspaces of its own with the real interface.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;

use crate::demo::{BINARY, Demo};

/// A plugin and its interface, which are edited.
pub(crate) struct Workspace {
    folder: PathBuf,
    /// The folder of the interface's package. Cargo tells packages of the same name in one target folder apart by their
    /// paths in the workspace, so no other workspace here has this path.
    types: String,
}

pub(crate) const CODE: &str = "plugin/src/lib.rs";

impl Workspace {
    /// Always in the same folder, so that the target folder does not grow with each run.
    pub(crate) fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("dev")
            .join(name);
        fs::create_dir_all(&folder).unwrap();
        let folder = folder.canonicalize().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let types = format!("{name}-types");
        let workspace = Self { folder, types };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        let sdk = root.join("hotswap-types/sdk");
        let types = &workspace.types;
        let manifest = format!(
            "[workspace]\nresolver = \"3\"\nmembers = [\"{types}\", \"plugin\"]\n\
             [profile.dev]\ndebug = \"limited\"\n\
             [profile.dev.package.\"*\"]\ndebug = false\n"
        );
        let package = |name: &str, rest: &str| {
            format!(
                "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                 [dependencies]\nhotswap-sdk.path = {sdk:?}\n{rest}"
            )
        };
        workspace.write("Cargo.toml", &manifest);
        // The versions that are there.
        workspace.write("Cargo.lock", &read("Cargo.lock"));
        let of_types = package("hotswap-types", "");
        workspace.write(&format!("{types}/Cargo.toml"), &of_types);
        workspace.write(&workspace.interface(), &read("hotswap-types/src/lib.rs"));
        let rest =
            format!("hotswap-types.path = \"../{types}\"\n[lib]\ncrate-type = [\"cdylib\"]\n");
        workspace.write("plugin/Cargo.toml", &package(name, &rest));
        workspace.write(CODE, include_str!("dev/plugin.rs"));
        workspace
    }

    fn interface(&self) -> String {
        format!("{}/src/lib.rs", self.types)
    }

    /// At once, so that no build sees half of it.
    fn write(&self, path: &str, text: &str) {
        let (new, path) = (self.folder.join("new"), self.folder.join(path));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    #[track_caller]
    pub(crate) fn change(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.folder.join(path)).unwrap();
        assert!(text.contains(from), "no {from} in {text}");
        self.write(path, &text.replace(from, to));
    }

    /// With the options that come after `--dev`.
    pub(crate) fn start(&self, options: &[&str]) -> Demo {
        let mut command = Command::new(BINARY);
        command.args(["--any-owner", "--period", "50ms"]);
        Demo::of(self.with_dev(command, options))
    }

    /// A program with `--dev` and the options that come after it.
    pub(crate) fn with_dev(&self, mut command: Command, options: &[&str]) -> Command {
        command.arg("--dev").args(options);
        // What they depend on is compiled once for all tests here.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dev/target");
        command
            .args(["--", "--offline", "--target-dir"])
            .arg(target);
        command
            .current_dir(&self.folder)
            .env("CARGO", env!("CARGO"));
        command
    }
}

#[test]
fn an_edit_is_built_and_swapped_in_and_a_broken_one_is_shown() {
    let workspace = Workspace::new("edited");
    let mut demo = workspace.start(&[]);
    demo.says("building edited");
    let built = demo.says("built in ");
    assert!(!built.contains("swapped"), "{built}");
    let accepted = demo.says("accepted generation 1: ");
    let expected = "/debug/libedited.so; change edited and save it; `help` lists the commands";
    assert!(accepted.ends_with(expected), "{accepted}");
    demo.prints_soon("some_data = \"one\"");

    workspace.change(CODE, "\"one\"", "\"two\"");
    demo.says("building edited");
    demo.says("accepted generation 2: ");
    let built = demo.says("built in ");
    assert!(built.contains("s, swapped in "), "{built}");
    demo.prints_soon("some_data = \"two\"");

    workspace.change(CODE, "\"two\"", "7 + \"two\"");
    demo.says("error[E0277]: cannot add `String` to `{integer}`");
    demo.says("error: could not compile `edited` (lib) due to 1 previous error");
    let not_built = demo.says("not built, after ");
    assert!(
        not_built.ends_with("s; generation 2 stays live"),
        "{not_built}"
    );
    demo.prints_soon("some_data = \"two\"");

    // Also after the end of the input.
    demo.end_input();
    workspace.change(CODE, "7 + \"two\"", "\"three\"");
    demo.says("accepted generation 3: ");
    demo.prints_soon("some_data = \"three\"");
    demo.signal(Signal::TERM);
    let (code, err) = demo.ends();
    assert_eq!(code, Some(0), "{err:?}");
}

#[test]
fn a_first_build_that_fails_is_waited_for() {
    let workspace = Workspace::new("broken");
    workspace.change(CODE, "\"one\"", "7");
    let mut demo = workspace.start(&["broken"]);
    let not_built = demo.says("not built, after ");
    let expected = "s; save a change, and it is built again";
    assert!(not_built.ends_with(expected), "{not_built}");
    demo.type_line(":reload");
    demo.says("there is no plugin yet");
    workspace.change(CODE, "7", "\"one\"");
    demo.says("accepted generation 1: ");
    demo.type_line("quit");
    assert_eq!(demo.ends().0, Some(0));
}

/// The host has the old one.
#[test]
fn a_changed_interface_asks_for_a_restart() {
    let workspace = Workspace::new("changed");
    let mut demo = workspace.start(&[]);
    demo.says("accepted generation 1: ");
    workspace.change(&workspace.interface(), "number: i64", "number: i8");
    workspace.change(CODE, "number: i64", "number: i8");
    let refused = loop {
        // Between the two edits it does not compile.
        let line = demo.says_anything();
        if line.starts_with("refused ") {
            break line;
        }
    };
    let end = "layout: some_fn.number: expected i64, found i8; generation 1 stays live; the interface has changed since \
               this process was built: end it, and run it again";
    assert!(refused.ends_with(end), "{refused}");
    demo.type_line("quit");
    assert_eq!(demo.ends().0, Some(0));
}

#[test]
fn builds_have_a_form_for_programs() {
    let workspace = Workspace::new("reported");
    let mut demo = workspace.start(&["reported", "--events", "json"]);
    let event = |name: &str| {
        let line = demo.says(&format!("{{\"event\":\"{name}\","));
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    assert_eq!(event("building")["package"], "reported");
    let built = event("built");
    assert!(
        built["took_us"].as_u64().is_some() && built["swapped_in_us"].is_null(),
        "{built}"
    );
    assert_eq!(built["rendered"], "");
    workspace.change(CODE, "\"one\"", "7");
    let not_built = event("not-built");
    assert_eq!(not_built["live"], 1);
    let rendered = not_built["rendered"].as_str().unwrap();
    assert!(
        rendered.starts_with("error[E0308]: mismatched types"),
        "{rendered}"
    );
    demo.type_line(":quit");
    assert_eq!(demo.ends().0, Some(0));
}

/// A build script that does not end by itself, and the pipe that it keeps open.
#[test]
fn quit_and_ctrl_c_during_a_build_leave_no_process() {
    let workspace = Workspace::new("ended");
    let pipe = workspace.folder.join("pipe");
    let script = "use std::{fs, thread};\n\nfn main() {\n    let _alive = fs::OpenOptions::new()\
                  .write(true).open(\"../pipe\").unwrap();\n    loop {\n        thread::park();\n    }\n}\n";
    workspace.write("plugin/build.rs", script);
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for ends in [(|demo| demo.type_line("quit")) as fn(&mut Demo), |demo| {
        demo.signal(Signal::INT)
    }] {
        let mut demo = workspace.start(&[]);
        // Opened: the script runs.
        let mut alive = File::open(&pipe).unwrap();
        ends(&mut demo);
        assert_eq!(demo.ends().0, Some(0));
        // Closed: it does not any more.
        assert_eq!(alive.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}

#[test]
fn what_is_no_plugin_is_named() {
    let workspace = Workspace::new("named");
    let check = |options: &[&str], message: &str| {
        let (code, err) = workspace.start(options).ends();
        assert_eq!((code, &*err), (Some(1), &[message.to_owned()][..]));
    };
    check(&["nmed"], "Error: no plugin is called nmed; expected named");
    let lib = "[lib]\ncrate-type = [\"cdylib\", \"lib\"]\n[features]\n";
    workspace.change(
        "named-types/Cargo.toml",
        "[dependencies]",
        &format!("{lib}[dependencies]"),
    );
    check(
        &[],
        "Error: expected one plugin, found hotswap-types, named; name one, as in `--dev hotswap-types`",
    );
}
