//! A workspace in a temporary folder: a plugin, what it shares with a host, and the host. They depend on nothing else.

use std::{
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hotswap_dev::{Build, DevLoop, DevSettings};
use tempfile::TempDir;

/// Long enough for anything that must happen, on any machine.
pub(crate) const SOON: Duration = Duration::from_secs(300);

pub(crate) struct Workspace(TempDir);

const PLUGIN: &str = "[package]\nname = \"plugin\"\nedition = \"2024\"\n\
                      [lib]\ncrate-type = [\"cdylib\"]\n\
                      [dependencies]\nshared = { path = \"../shared\" }\n";
const SHARED: &str = "[package]\nname = \"shared\"\nedition = \"2024\"\n[features]\nmore = []\n";
const HOST: &str = "[package]\nname = \"host\"\nedition = \"2024\"\n\
                    [dependencies]\nshared = { path = \"../shared\", features = [\"more\"] }\n";
/// What it says can be found in the file of the plugin.
const CODE: &str = "#[unsafe(no_mangle)]\npub extern \"C\" fn says() -> *const u8 {\n    \
                    shared::pointer(\"it says: 0\")\n}\n";

impl Workspace {
    pub(crate) fn new() -> Self {
        let workspace = Self(tempfile::tempdir().unwrap());
        workspace.write(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"plugin\", \"shared\", \"host\"]\n",
        );
        workspace.write("plugin/Cargo.toml", PLUGIN);
        workspace.write("plugin/src/lib.rs", CODE);
        workspace.write("shared/Cargo.toml", SHARED);
        workspace.write(
            "shared/src/lib.rs",
            "pub fn pointer(text: &'static str) -> *const u8 {\n    text.as_ptr()\n}\n",
        );
        workspace.write("host/Cargo.toml", HOST);
        workspace.write("host/src/main.rs", "fn main() {}\n");
        // Otherwise the first build makes it, which is a change.
        assert!(workspace.cargo(&["generate-lockfile"]));
        workspace
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        // As cargo gives it.
        self.0.path().canonicalize().unwrap().join(path)
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// At once, so that no build sees half of it.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let (new, path) = (self.path("new"), self.path(path));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    pub(crate) fn change(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "no {from} in {text}");
        self.write(path, &text.replace(from, to));
    }

    /// A build script that waits as long as the file `gate` is there. It keeps the pipe `alive` open meanwhile.
    pub(crate) fn write_gated_script(&self) {
        let status = Command::new("mkfifo").arg(self.path("alive")).status();
        assert!(status.unwrap().success());
        assert!(self.path("alive").metadata().unwrap().file_type().is_fifo());
        self.write(
            "plugin/build.rs",
            r#"
            use std::{fs, path::Path, thread, time::Duration};

            fn main() {
                if !Path::new("../gate").exists() {
                    return;
                }
                let alive = fs::OpenOptions::new().write(true).open("../alive").unwrap();
                while Path::new("../gate").exists() {
                    thread::sleep(Duration::from_millis(10));
                }
                drop(alive);
            }
            "#,
        );
    }

    /// Whether cargo succeeds.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> bool {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(arguments).arg("--offline");
        let output = cargo.current_dir(self.0.path()).output().unwrap();
        output.status.success()
    }

    pub(crate) fn settings(&self) -> DevSettings {
        DevSettings {
            folder: self.0.path().to_owned(),
            host: Some("host".to_owned()),
            // Also where the environment names another folder.
            cargo_args: [
                "--offline".into(),
                "--target-dir".into(),
                self.path("target").into(),
            ]
            .into(),
            color: false,
            ..DevSettings::default()
        }
    }

    pub(crate) fn start(&self) -> DevLoop {
        DevLoop::start(self.settings()).unwrap()
    }
}

/// The next build.
#[track_caller]
pub(crate) fn next(dev: &DevLoop) -> Build {
    assert!(matches!(recv(dev), Build::Started), "a build begins");
    let build = recv(dev);
    assert!(!matches!(build, Build::Started), "a build ends");
    build
}

#[track_caller]
fn recv(dev: &DevLoop) -> Build {
    dev.builds().recv_timeout(SOON).expect("a build")
}

/// Waits for a plugin that says this.
#[track_caller]
pub(crate) fn built(dev: &DevLoop, says: &str) -> PathBuf {
    match next(dev) {
        Build::Built { path, rendered, .. } => {
            assert_eq!(rendered, "");
            check_says(&path, says);
            path
        }
        build => panic!("{build:?}"),
    }
}

/// Waits for a plugin that says this, whatever was built before.
#[track_caller]
pub(crate) fn built_at_last(dev: &DevLoop, says: &str) {
    loop {
        if let Build::Built { path, .. } = next(dev)
            && says_it(&path, says)
        {
            return;
        }
    }
}

#[track_caller]
pub(crate) fn check_says(path: &Path, says: &str) {
    assert!(says_it(path, says), "not `{says}`");
}

fn says_it(path: &Path, says: &str) -> bool {
    let bytes = fs::read(path).unwrap();
    let says = format!("it says: {says}");
    let mut parts = bytes.windows(says.len());
    parts.any(|it| it == says.as_bytes())
}

#[track_caller]
pub(crate) fn failed(dev: &DevLoop) -> String {
    match next(dev) {
        Build::Failed { rendered, .. } => rendered,
        build => panic!("{build:?}"),
    }
}
