//! Files that do not have all of their Rust code in themselves.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use hotswap_core::{Hotswap, Stage, loader::Loader};
use hotswap_fixtures::FixtureRef;

use crate::fixtures::trust;

/// With what looks like a root module from outside: nothing of it is ever asked.
const PLUGIN: &str = r#"
    #[unsafe(no_mangle)]
    pub static _1as_0lib_1header_0root_bmodule_bloader: [u64; 64] = [0; 64];

    #[unsafe(no_mangle)]
    pub extern "C" fn hello() {
        println!("{}", text());
    }
"#;

/// Where libraries are built.
struct Folder {
    folder: tempfile::TempDir,
    std: Std,
}

/// How they come by std.
#[derive(Clone, Copy, PartialEq)]
enum Std {
    /// It is linked into them.
    Static,
    /// From its own library.
    Shared,
    /// It is linked into the first, from where the others have it, as with a compiler that comes without std's own
    /// library.
    OfAnother,
}

impl Folder {
    fn new(std: Std) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if std == Std::OfAnother {
            // A compiler's own folder with all of it but that library.
            let target = PathBuf::from(output(rustc().args(["--print", "target-libdir"])).trim());
            let ours = folder.path().join("lib/rustlib");
            let ours = ours.join(target.parent().unwrap().file_name().unwrap());
            fs::create_dir_all(ours.join("lib")).unwrap();
            link_all(target.parent().unwrap(), &ours, |name| name != "lib");
            link_all(&target, &ours.join("lib"), |name| {
                !(name.starts_with("libstd-") && name.ends_with(".so"))
            });
        }
        Self { folder, std }
    }

    fn build(&self, name: &str, crate_type: &str, source: &str) -> PathBuf {
        let folder = self.folder.path();
        let file = folder.join(format!("{name}.rs"));
        fs::write(&file, source).unwrap();
        let mut rustc = rustc();
        rustc.args(["--edition", "2024", "--crate-type", crate_type]);
        match self.std {
            Std::Static => {}
            Std::Shared => _ = rustc.args(["-C", "prefer-dynamic"]),
            Std::OfAnother => _ = rustc.arg("--sysroot").arg(folder),
        }
        rustc.arg("-L").arg(folder).arg("--out-dir").arg(folder);
        output(rustc.arg(&file));
        folder.join(format!("lib{name}.so"))
    }

    /// A plugin that uses a library of crate-type `dylib`.
    fn with_words(&self) -> PathBuf {
        let source = "pub fn text() -> String { format!(\"{:?}\", std::thread::current().id()) }";
        self.build("words", "dylib", source);
        let source = format!("extern crate words; use words::text; {PLUGIN}");
        self.build("plugin", "cdylib", &source)
    }

    /// A plugin by itself.
    fn alone(&self) -> PathBuf {
        let source = format!("fn text() -> &'static str {{ \"Hello\" }} {PLUGIN}");
        self.build("plugin", "cdylib", &source)
    }
}

/// The compiler of the cargo by which this test was built, for the processor that it runs on: the compiler may run on
/// another.
fn rustc() -> Command {
    let mut rustc = Command::new(Path::new(env!("CARGO")).with_file_name("rustc"));
    rustc.arg(format!("--target={}-unknown-linux-gnu", env::consts::ARCH));
    rustc
}

#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().expect("a compiler");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn link_all(from: &Path, to: &Path, is_wanted: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if is_wanted(&name) {
            symlink(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// Refused both as a plugin and as a library of single functions, and in words that name `library`, which may end in
/// a hash.
#[track_caller]
fn refused(path: &Path, library: &str) {
    let plugin = Hotswap::<FixtureRef>::load(path, &trust()).unwrap_err();
    let opened = Loader::new(&trust()).unwrap().open(path).unwrap_err();
    for error in [plugin, opened] {
        assert_eq!(error.stage(), Stage::Inspect, "{error}");
        let reason = error.reason();
        let named = "inspect: takes Rust code from another library (";
        let (found, rest) = reason
            .strip_prefix(named)
            .unwrap()
            .split_once(", ")
            .unwrap();
        let found = match found.split_once('-') {
            Some((name, _)) => format!("{name}-….so"),
            None => found.to_owned(),
        };
        assert_eq!(found, library, "{reason}");
        assert!(rest.starts_with("symbol _"), "{reason}");
        let what_to_do = "): build it without `-C prefer-dynamic`, and without dependencies of crate-type `dylib`";
        assert!(rest.ends_with(what_to_do), "{reason}");
    }
}

#[test]
fn a_plugin_that_shares_std_is_refused() {
    refused(&Folder::new(Std::Shared).alone(), "libstd-….so");
    // The same code with all in itself.
    let folder = Folder::new(Std::Static);
    let loader = Loader::new(&trust()).unwrap();
    drop(loader.open(folder.alone()).unwrap());
}

#[test]
fn a_plugin_that_shares_a_crate_is_refused() {
    refused(&Folder::new(Std::Shared).with_words(), "libstd-….so");
    refused(&Folder::new(Std::OfAnother).with_words(), "libwords.so");
}
