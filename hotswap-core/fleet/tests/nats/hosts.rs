//! Host processes.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    builds::{PLUGIN, host_program},
    fleet::{MOMENT, soon},
};

/// A host, which may be started and killed any number of times. It is killed when it is dropped.
pub(crate) struct Host {
    pub(crate) name: String,
    folder: PathBuf,
    told: Value,
    process: Option<Process>,
}

struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
}

/// What a host has said at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) calls: u64,
    pub(crate) faults: u64,
}

impl Host {
    /// A host that was not started yet, with a folder of its own below this one, and with what it is told besides.
    pub(crate) fn new(
        name: &str,
        root: &Path,
        server: &str,
        public_key: &str,
        more: &Value,
    ) -> Self {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).expect("the folder can be written");
        let mut told = json!({
            "plugin": PLUGIN,
            "host": name,
            "folder": folder.join("fleet"),
            "server": server,
            "public_key": public_key,
            "heartbeat_ms": 200,
            "good_after_ms": 300,
            "start_timeout_ms": 300_000,
        });
        let fields = told.as_object_mut().expect("just made");
        fields.extend(more.as_object().expect("fields").clone());
        Self {
            name: name.to_owned(),
            folder,
            told,
            process: None,
        }
    }

    /// Tells it something else from the next start on.
    pub(crate) fn tell(&mut self, field: &str, value: impl Into<Value>) {
        self.told[field] = value.into();
    }

    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "{} is running", self.name);
        let file = |name: &str| {
            let mut options = File::options();
            let file = options
                .create(true)
                .append(true)
                .open(self.folder.join(name));
            file.expect("the folder can be written")
        };
        let mut child = Command::new(host_program())
            .arg(self.told.to_string())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .expect("just built");
        let stdin = child.stdin.take();
        self.process = Some(Process { child, stdin });
    }

    /// The build that it has run last, by what that says of itself, once it runs one.
    pub(crate) fn runs(&self) -> Option<String> {
        let out = self.out();
        let last = out.lines().rev().find_map(|it| it.strip_prefix("runs "));
        last.map(str::to_owned)
    }

    /// All builds that it has run, one after the other.
    pub(crate) fn has_run(&self) -> Vec<String> {
        let out = self.out();
        let all = out.lines().filter_map(|it| it.strip_prefix("runs "));
        all.map(str::to_owned).collect()
    }

    /// Waits until it runs this build.
    pub(crate) async fn until_runs(&self, serial: u64) {
        let serial = serial.to_string();
        let what = || format!("{} does not run {serial}: {}", self.name, self.err());
        soon(what, async || {
            (self.runs().as_ref() == Some(&serial)).then_some(())
        })
        .await;
    }

    /// Has it report a fault of what it runs.
    pub(crate) fn report_fault(&mut self) {
        let stdin = self.process.as_mut().and_then(|it| it.stdin.as_mut());
        writeln!(stdin.expect("it runs"), "as told").expect("it reads");
    }

    /// Waits until it ends by itself.
    pub(crate) async fn until_ends(&mut self) -> ExitStatus {
        let Process { mut child, stdin } = self.process.take().expect("it runs");
        let status = loop {
            if let Some(status) = child.try_wait().expect("it is ours") {
                break status;
            }
            sleep(MOMENT).await;
        };
        drop(stdin);
        status
    }

    /// Ends it in an orderly way.
    pub(crate) async fn end(&mut self) -> Ended {
        let process = self.process.as_mut().expect("it runs");
        process.stdin = None;
        self.until_ends().await;
        let out = self.out();
        let last = out.lines().last().unwrap_or_default();
        let words: Vec<_> = last.split([' ', ',']).collect();
        let ["ended", "after", calls, "calls", "", faults, "faults"] = words[..] else {
            panic!("{} ended with {last:?}: {}", self.name, self.err());
        };
        let number = |it: &str| it.parse().expect("a number");
        Ended {
            calls: number(calls),
            faults: number(faults),
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.child.kill().expect("it is ours");
            process.child.wait().expect("it is ours");
        }
    }

    /// What it has written to its standard error.
    pub(crate) fn err(&self) -> String {
        self.read("err")
    }

    fn out(&self) -> String {
        self.read("out")
    }

    fn read(&self, name: &str) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(self.folder.join(name)) {
            file.read_to_string(&mut text).expect("it writes text");
        }
        text
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}
