//! A running demo, and its plugins.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        LazyLock,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Long enough for anything that must happen, on any machine, also for a build from nothing.
pub(crate) const SOON: Duration = Duration::from_secs(300);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_hotswap-demo");

/// A program that says its errors as without a debugger: anyhow adds a backtrace to an error that `main` returns, if
/// the environment of these tests asks for one.
pub(crate) fn without_backtraces(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        command.env_remove(name);
    }
    command
}

/// Copies the demo's program, in a process of its own: a program that is still open for writing cannot be run, and a
/// child that another test starts meanwhile has every descriptor of this process until it runs its own program.
pub(crate) fn copy_program(to: &Path) {
    let copied = Command::new("cp").arg(BINARY).arg(to).status();
    assert!(copied.expect("cp runs").success());
}

/// The path of a plugin of `tests/fixtures`, built once.
pub(crate) fn plugin(name: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("cargo makes it `target/tmp`");
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--package",
                "hotswap-demo-fixtures",
                "--examples",
                "--target-dir",
            ])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("CARGO_BUILD_TARGET")
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the fixtures do not build");
        let folder = target.join("debug/examples");
        folder.canonicalize().expect("just built")
    });
    FOLDER.join(format!("lib{name}.so"))
}

/// A demo with pipes for all three streams, and a temporary folder of its own. It is killed should a test
/// fail.
pub(crate) struct Demo {
    child: Child,
    folder: TempDir,
    input: Option<ChildStdin>,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Demo {
    /// A demo that ticks every 50 ms, unless told otherwise, and takes the plugins whoever owns the folder that
    /// all this was checked out into.
    pub(crate) fn start(options: &[&str], first: &Path) -> Self {
        Self::start_strictly(&[&["--any-owner"], options].concat(), first)
    }

    /// A demo that is not told to take plugins of any owner.
    pub(crate) fn start_strictly(options: &[&str], first: &Path) -> Self {
        Self::run(Command::new(BINARY), options, first)
    }

    /// A demo by a command that has something to do with it first.
    pub(crate) fn run(mut command: Command, options: &[&str], first: &Path) -> Self {
        command.args(["--period", "50ms"]).args(options).arg(first);
        Self::of(command)
    }

    /// Any program that takes lines and says some.
    pub(crate) fn of(mut command: Command) -> Self {
        let folder = TempDir::new().expect("a folder");
        command
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the demo runs");
        Self {
            folder,
            input: child.stdin.take(),
            out: lines(child.stdout.take().expect("a pipe")),
            err: lines(child.stderr.take().expect("a pipe")),
            child,
        }
    }

    /// A demo that has accepted `name` as its first plugin.
    pub(crate) fn with(name: &str) -> Self {
        Self::with_options(&[], name)
    }

    pub(crate) fn with_options(options: &[&str], name: &str) -> Self {
        let path = plugin(name);
        let demo = Self::start(options, &path);
        demo.says(&format!("accepted generation 1: {}", path.display()));
        demo
    }

    pub(crate) fn type_line(&mut self, line: impl AsRef<OsStr>) {
        let mut bytes = line.as_ref().as_bytes().to_owned();
        bytes.push(b'\n');
        self.input
            .as_mut()
            .expect("still open")
            .write_all(&bytes)
            .expect("the demo reads");
    }

    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// Waits for a line on stderr that begins so, and gives it. Others before it are passed over, but
    /// for refusals and faults, which no test may overlook.
    #[track_caller]
    pub(crate) fn says(&self, beginning: &str) -> String {
        loop {
            let line = self
                .err
                .recv_timeout(SOON)
                .unwrap_or_else(|_| panic!("`{beginning}` is not said"));
            if line.starts_with(beginning) {
                return line;
            }
            let expected = !line.starts_with("refused") && !line.starts_with("fault");
            assert!(expected, "not `{beginning}`, but `{line}`");
        }
    }

    /// The next line on stderr.
    #[track_caller]
    pub(crate) fn says_anything(&self) -> String {
        self.err.recv_timeout(SOON).expect("a line")
    }

    /// The next line that the plugin says.
    #[track_caller]
    pub(crate) fn prints(&self) -> String {
        self.out.recv_timeout(SOON).expect("the demo ticks")
    }

    /// Waits until the plugin has said this, after anything.
    #[track_caller]
    pub(crate) fn prints_soon(&self, line: &str) {
        while self.prints() != line {}
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is ours");
    }

    #[track_caller]
    pub(crate) fn signal_until_it_ends(&mut self, signal: Signal) {
        signal_until_it_ends(&mut self.child, signal);
    }

    pub(crate) fn number(&self) -> u32 {
        self.child.id()
    }

    /// Nobody reads what the plugin says any more.
    pub(crate) fn stop_reading(&mut self) {
        self.out = mpsc::channel().1;
    }

    /// Waits for the end; gives the exit code, and the lines of stderr that were not read yet. Nothing is
    /// left in the temporary folder.
    #[track_caller]
    pub(crate) fn ends(mut self) -> (Option<i32>, Vec<String>) {
        // stdin stays open: its end would be another reason to end.
        let err = self.err.iter().collect();
        let left: Vec<_> = self.folder.path().read_dir().expect("a folder").collect();
        assert!(left.is_empty(), "{left:?}");
        (self.child.wait().expect("a child").code(), err)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends this signal again and again, and gives the status. Two would not do: a signal is lost while the one before it
/// is pending.
#[track_caller]
pub(crate) fn signal_until_it_ends(child: &mut Child, signal: Signal) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        assert!(begin.elapsed() < SOON, "{signal:?} does not end it");
        kill_process(Pid::from_child(child), signal).expect("it is ours");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What is said there, line by line, as long as somebody wants to know.
pub(crate) fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
