//! The host's side of a trial: it starts the child, receives its reports, and decides.

use std::{
    ffi::OsStr,
    io::{self, PipeReader, Read},
    path::Path,
    process::ExitStatus,
    time::{Duration, Instant},
};

use hotswap_sdk::Config;

use super::{
    NAME, Tried,
    report::{CONFIG_PART_BYTES_MAX, Findings, MESSAGE_BYTES_MAX, Report, Token},
};
use crate::{
    error::{Error, ErrorKind, Result, Stage},
    stage::{Needed, Staged},
    system::{
        child::{self, Child},
        connection::{Connection, Readable, fill_randomly},
    },
};

/// How often the host checks whether the child is still there. The child's end also ends its connection, which the
/// host notices at once, unless a process that the child has started holds the connection open.
const POLL_PERIOD: Duration = Duration::from_millis(50);

/// How much of the end of the child's standard error is kept.
const STDERR_BYTES_MAX: usize = 4096;

/// How much is read of what a child that has ended has left in the pipe: as much as a pipe holds. Processes that the
/// child has started may write more without end.
const STDERR_LEFT_BYTES_MAX: usize = 1 << 16;

/// Runs a trial of the interface named `interface`.
pub(super) fn run(staged: &Staged, interface: &str, timeout: Duration) -> Result<Tried> {
    let path = &*staged.origin().given;
    let started = Instant::now();
    let mut child = TrialProcess::start(staged, interface)
        .map_err(|error| Error::new(path, ErrorKind::trial("it cannot be started", error)))?;
    let outcome = child.listen(started, timeout);
    let ending = child.end(&outcome, started, timeout);
    child.decide(path, outcome, ending, timeout)?;
    Ok(Tried {
        duration: started.elapsed(),
        findings: child.findings,
    })
}

/// A running child.
struct TrialProcess {
    child: Child,
    control: Connection,
    /// The child's standard error, until it ends.
    stderr: Option<PipeReader>,
    /// The last of what came from standard error.
    stderr_tail: Vec<u8>,
    /// The stage that the child has begun last. `None`: it has reported nothing.
    reached: Option<Stage>,
    /// The token, which is sent once the child has said that it has finished.
    token: Option<Token>,
    /// What the child reported when it finished.
    findings: Findings,
    /// The configuration, of which the first `config_sent` bytes were sent.
    config: Config,
    config_sent: usize,
}

/// The result of listening to the child.
enum Outcome {
    /// The child has returned the token.
    Passed,
    /// The child has refused the candidate.
    Refused { kind: ErrorKind, details: String },
    /// The child has ended, or has closed its connection.
    Gone,
    /// The trial's time is over.
    TimedOut,
    /// The host cannot listen to the child.
    ListenFailed(io::Error),
}

/// How a child has ended.
enum ChildEnd {
    Status(ExitStatus),
    /// This process cannot wait for its children (it ignores SIGCHLD), or other code in it has taken the status.
    Unknown,
    /// The host has killed the child, which a signal may have stopped before.
    Killed {
        stopped_by: Option<i32>,
    },
}

impl TrialProcess {
    fn start(staged: &Staged, interface: &str) -> io::Result<Self> {
        let (control, theirs) = Connection::pair()?;
        let (stderr, their_stderr) = io::pipe()?;
        let first = staged.libraries().iter().filter_map(Needed::opened_first);
        let first = first.flat_map(|(name, path)| [OsStr::new(name), path.as_os_str()]);
        let copy = staged.copy()?;
        let child = Child::start(NAME, |command| {
            command
                .arg(interface)
                .arg(&*staged.origin().given)
                .args(first)
                .stdin(copy)
                .stdout(theirs)
                .stderr(their_stderr);
        })?;
        let mut process = Self {
            child,
            control,
            stderr: Some(stderr),
            stderr_tail: Vec::new(),
            reached: None,
            token: None,
            findings: Findings::default(),
            config: staged.origin().config.clone(),
            config_sent: 0,
        };
        process.send_config()?;
        Ok(process)
    }

    /// Sends the next part of the configuration. The child asks for each but the first, so that the connection, which
    /// has room for one, never blocks.
    fn send_config(&mut self) -> io::Result<()> {
        let rest = self.config.bytes().get(self.config_sent..).unwrap_or(&[]);
        let part = &rest[..rest.len().min(CONFIG_PART_BYTES_MAX)];
        let is_last = part.len() == rest.len();
        self.send(&[&[u8::from(is_last)], part].concat())?;
        self.config_sent += part.len();
        Ok(())
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        match self.control.send(message) {
            // The child is gone. The next `receive` tells so, and what it has sent before.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    fn listen(&mut self, started: Instant, timeout: Duration) -> Outcome {
        loop {
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Outcome::TimedOut;
            }
            match self.poll_once(left.min(POLL_PERIOD)) {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
                Err(error) => return Outcome::ListenFailed(error),
            }
        }
    }

    /// Waits once, and handles what has come.
    fn poll_once(&mut self, time: Duration) -> io::Result<Option<Outcome>> {
        let readable = self.wait(time)?;
        if readable.pipe {
            self.read_stderr()?;
        }
        if readable.connection {
            return self.receive();
        }
        // The child counts as gone only after everything that it sent was read.
        Ok((!readable.pipe && self.child.has_ended()).then_some(Outcome::Gone))
    }

    /// Waits at most `time` until there is something to read.
    fn wait(&self, time: Duration) -> io::Result<Readable> {
        self.control.wait_readable(self.stderr.as_ref(), time)
    }

    /// Reads once, and returns how many bytes.
    fn read_stderr(&mut self) -> io::Result<usize> {
        let Some(stderr) = &mut self.stderr else {
            return Ok(0);
        };
        let mut chunk = [0; STDERR_BYTES_MAX];
        let length = stderr.read(&mut chunk)?;
        if length == 0 {
            self.stderr = None;
        }
        self.stderr_tail.extend(&chunk[..length]);
        let excess = self.stderr_tail.len().saturating_sub(STDERR_BYTES_MAX);
        self.stderr_tail.drain(..excess);
        Ok(length)
    }

    /// Receives one message from the child.
    fn receive(&mut self) -> io::Result<Option<Outcome>> {
        let mut message = vec![0; MESSAGE_BYTES_MAX];
        let length = match self.control.receive(&mut message) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(error) => return Err(error),
        };
        if length == 0 {
            return Ok(Some(Outcome::Gone));
        }
        match Report::decode(&message[..length]) {
            Some(Report::Reached(stage)) => self.reached = Some(stage),
            Some(Report::Refused { kind, details }) => {
                return Ok(Some(Outcome::Refused { kind, details }));
            }
            Some(Report::Finished(findings)) if self.token.is_none() => {
                self.findings = findings;
                let mut token = Token::default();
                fill_randomly(&mut token)?;
                self.send(&token)?;
                self.token = Some(token);
            }
            Some(Report::Token(token)) if self.token == Some(token) => {
                return Ok(Some(Outcome::Passed));
            }
            Some(Report::NextPart) if self.config_sent < self.config.bytes().len() => {
                self.send_config()?;
            }
            // Our code in the child never sends this at this point, so somebody else did: ignore it.
            Some(Report::Finished(_) | Report::Token(_) | Report::NextPart) | None => {}
        }
        Ok(None)
    }

    /// Waits for a child that is about to end, kills any other, and kills the processes that it has started.
    fn end(&mut self, outcome: &Outcome, started: Instant, timeout: Duration) -> ChildEnd {
        let left = match outcome {
            Outcome::Passed | Outcome::Gone => timeout.saturating_sub(started.elapsed()),
            _ => Duration::ZERO,
        };
        let had_ended = self.child.ends_within(left);
        let stopped_by = self.child.stopped_by();
        self.child.kill_group();
        match self.child.wait() {
            _ if !had_ended => ChildEnd::Killed { stopped_by },
            Ok(status) => ChildEnd::Status(status),
            Err(_) => ChildEnd::Unknown,
        }
    }

    fn decide(
        &mut self,
        path: &Path,
        outcome: Outcome,
        ending: ChildEnd,
        timeout: Duration,
    ) -> Result<()> {
        let stage = self.reached.unwrap_or(Stage::Trial);
        let refused = |kind| Err(Error::new(path, kind));
        match (outcome, ending) {
            (Outcome::Passed, ChildEnd::Unknown) => Ok(()),
            (Outcome::Passed, ChildEnd::Status(status)) if status.success() => Ok(()),
            (Outcome::Refused { kind, details }, _) => {
                let error = Error::new(path, kind);
                Err(if details.is_empty() {
                    error
                } else {
                    error.because(&details)
                })
            }
            (Outcome::ListenFailed(error), _) => {
                refused(ErrorKind::trial("it cannot be listened to", error))
            }
            (_, ChildEnd::Killed { stopped_by }) => refused(ErrorKind::TimedOut {
                stage,
                timeout,
                stopped_by,
            }),
            (outcome, ending) => {
                self.drain_stderr();
                let status = match ending {
                    ChildEnd::Status(status) => Some(status),
                    ChildEnd::Unknown | ChildEnd::Killed { .. } => None,
                };
                refused(ErrorKind::Died {
                    stage,
                    exit_code: status.and_then(|it| it.code()),
                    signal: status.and_then(child::signal),
                    has_begun: self.reached.is_some(),
                    has_finished: matches!(outcome, Outcome::Passed),
                    said: self.last_line(),
                })
            }
        }
    }

    /// Reads what a child that has ended has left in the pipe.
    fn drain_stderr(&mut self) {
        let mut left = STDERR_LEFT_BYTES_MAX;
        while left > 0
            && self.stderr.is_some()
            && self
                .wait(Duration::ZERO)
                .is_ok_and(|readable| readable.pipe)
        {
            match self.read_stderr() {
                Ok(length) => left = left.saturating_sub(length),
                Err(_) => return,
            }
        }
    }

    fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.stderr_tail);
        let line = text.lines().rfind(|line| !line.trim().is_empty())?;
        Some(line.trim().to_owned())
    }
}
