//! One build by cargo: what it runs, what it reads of the answer, and how it ends a build early.

use std::{
    env::consts::DLL_EXTENSION,
    ffi::OsString,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use serde::Deserialize;

use crate::{packages::PluginPackage, system::Group};

/// What to build, and how.
pub(crate) struct Cargo {
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) plugin: PluginPackage,
    /// A package whose features count, too.
    pub(crate) host: Option<String>,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) color: bool,
}

/// How a build has ended.
pub(crate) struct Outcome {
    /// The plugin's file; none if the build has failed.
    pub(crate) path: Option<PathBuf>,
    /// What the compiler and cargo said.
    pub(crate) rendered: String,
}

/// A line of what cargo says (<https://doc.rust-lang.org/cargo/reference/external-tools.html#json-messages>).
///
/// No enum of the reasons: serde_json reads one field after another, and would refuse a deep message (of an error in
/// macros in macros) if it had to keep what comes before the reason.
#[derive(Deserialize)]
struct Message {
    reason: String,
    /// What the compiler says.
    message: Option<Diagnostic>,
    manifest_path: Option<PathBuf>,
    /// What was built.
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Diagnostic {
    rendered: Option<String>,
}

/// The processes of the build that is running.
#[derive(Debug, Default)]
pub(crate) struct Processes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Cargo, with all that it starts.
    group: Option<Group>,
    has_ended: bool,
}

impl Cargo {
    /// Builds. An error: cargo does not run.
    pub(crate) fn build(&self, processes: &Processes) -> io::Result<Outcome> {
        let mut child = processes.start(&mut self.command())?;
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let mut path = None;
        let mut diagnostics = Text::default();
        let mut said = Text::default();
        thread::scope(|scope| {
            let said = &mut said;
            let reading = thread::Builder::new().name("hotswap-dev-stderr".to_owned());
            let reading = reading.spawn_scoped(scope, move || {
                let mut stderr = BufReader::new(stderr);
                let mut line = Vec::new();
                while stderr.read_until(b'\n', &mut line).is_ok_and(|it| it > 0) {
                    said.push(&String::from_utf8_lossy(&line));
                    line.clear();
                }
            });
            let mut stdout = BufReader::new(stdout);
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).is_ok_and(|it| it > 0) {
                // An error: it is not for programs, such as what a procedural macro has printed.
                if let Ok(message) = serde_json::from_slice::<Message>(&line) {
                    diagnostics.push(message.rendered().unwrap_or_default());
                    path = self.plugin_in(message).or(path.take());
                }
                line.clear();
            }
            reading.map(drop)
        })?;
        let is_success = processes.wait(&mut child)?;
        diagnostics.push(&said.0);
        Ok(Outcome {
            path: path.filter(|_| is_success),
            rendered: diagnostics.0,
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["build", "--quiet", "--lib"]);
        command.arg(if self.color {
            "--message-format=json-diagnostic-rendered-ansi"
        } else {
            "--message-format=json"
        });
        command.arg(if self.color {
            "--color=always"
        } else {
            "--color=never"
        });
        command.args(["--package", &self.plugin.name]);
        command.args(self.host.iter().flat_map(|host| ["--package", host]));
        command.args(&self.arguments).current_dir(&self.folder);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // A Ctrl-C on the terminal is for the host, which decides when the build ends.
        Group::lead(&mut command);
        command
    }

    /// The plugin's file, if this is it.
    fn plugin_in(&self, message: Message) -> Option<PathBuf> {
        let is_plugin = message.reason == "compiler-artifact"
            && message.manifest_path.as_ref() == Some(&self.plugin.manifest);
        // A library of several types has several files.
        let mut files = message.filenames.into_iter().filter(|_| is_plugin);
        files.find(|it| it.extension().is_some_and(|it| it == DLL_EXTENSION))
    }
}

impl Message {
    /// What the compiler says, as text.
    fn rendered(&self) -> Option<&str> {
        let is_said = self.reason == "compiler-message";
        let message = self.message.as_ref().filter(|_| is_said)?;
        message.rendered.as_deref()
    }
}

impl Processes {
    /// Ends the build that is running, and every later one.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        state.kill();
    }

    fn start(&self, command: &mut Command) -> io::Result<Child> {
        let mut state = self.lock();
        let child = command.spawn()?;
        state.group = Some(Group::of(&child));
        if state.has_ended {
            state.kill();
        }
        Ok(child)
    }

    /// Waits for a child whose pipes are closed: it is about to end. Whether it has succeeded.
    fn wait(&self, child: &mut Child) -> io::Result<bool> {
        self.lock().group = None;
        Ok(child.wait()?.success())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// At once: a build has nothing to tidy up that the next one would miss, and a build script may ignore other
    /// signals.
    fn kill(&self) {
        if let Some(group) = self.group {
            group.kill();
        }
    }
}

/// What was said, up to a length that no person reads.
#[derive(Default)]
struct Text(String);

impl Text {
    const BYTES_MAX: usize = 1024 * 1024;

    fn push(&mut self, text: &str) {
        if self.0.len() + text.len() <= Self::BYTES_MAX {
            self.0.push_str(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_macros_in_macros_is_said() {
        let depth = 500;
        let (begin, end) = (r#"{"span":{"expansion":"#.repeat(depth), "}}".repeat(depth));
        let line = format!(
            r#"{{"reason":"compiler-message","package_id":"x","manifest_path":"/x/Cargo.toml",
            "message":{{"spans":[{begin}null{end}],"rendered":"error: no","level":"error"}}}}"#
        );
        let message: Message = serde_json::from_str(&line).unwrap();
        assert_eq!(message.rendered(), Some("error: no"));
    }
}
