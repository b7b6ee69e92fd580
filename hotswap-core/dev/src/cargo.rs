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

use cargo_metadata::{Artifact, Message};

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
            let messages = Message::parse_stream(BufReader::new(stdout));
            for message in messages.map_while(Result::ok) {
                match message {
                    Message::CompilerMessage(it) => {
                        diagnostics.push(it.message.rendered.as_deref().unwrap_or_default());
                    }
                    Message::CompilerArtifact(it) => path = self.plugin_in(&it).or(path.take()),
                    _ => {}
                }
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
    fn plugin_in(&self, artifact: &Artifact) -> Option<PathBuf> {
        if artifact.manifest_path != self.plugin.manifest {
            return None;
        }
        // A library of several types has several files.
        let mut files = artifact.filenames.iter();
        let file = files.find(|it| it.extension() == Some(DLL_EXTENSION))?;
        Some(file.clone().into())
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
