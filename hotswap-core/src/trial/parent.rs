//! The host's side of a trial: starts the child, listens, and judges.

use std::{
    ffi::OsStr,
    io::{self, PipeReader, Read},
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair},
    process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid},
    rand::{GetRandomFlags, getrandom},
};

use super::{
    NAME, Tried,
    report::{Findings, MESSAGE_BYTES_MAX, Report, Token},
};
use crate::{
    error::{Error, ErrorKind, Result, Stage},
    stage::{Needed, Staged},
};

/// How often it is looked whether the child is still there. Its end is noticed at once, by the end of its
/// connection, unless a process that it has started holds that.
const TURN: Duration = Duration::from_millis(50);

/// How much of the end of what the child says on standard error is kept.
const SAID_BYTES_MAX: usize = 4096;

/// Runs the trial of `interface`.
pub(super) fn run(staged: &Staged, interface: &str, timeout: Duration) -> Result<Tried> {
    let path = &*staged.origin().given;
    let started = Instant::now();
    let mut watch = Watch::start(staged, interface)
        .map_err(|error| Error::new(path, ErrorKind::trial("it cannot be started: ", error)))?;
    let verdict = watch.listen(started, timeout);
    let ending = watch.end(&verdict, started, timeout);
    watch.judge(path, verdict, ending, timeout)?;
    Ok(Tried {
        took: started.elapsed(),
        findings: watch.findings,
    })
}

/// A running child.
struct Watch {
    child: Child,
    control: OwnedFd,
    /// Until its end.
    stderr: Option<PipeReader>,
    /// The last of what came from there.
    said: Vec<u8>,
    /// The stage that it has begun. None: it has not said anything.
    reached: Option<Stage>,
    /// Sent when the child had said that it has finished.
    token: Option<Token>,
    /// What it had to say then.
    findings: Findings,
}

/// What listening has come to.
enum Verdict {
    /// The child has returned the token.
    Passed,
    /// The child has found a reason.
    Refused { kind: ErrorKind, details: String },
    /// The child has ended, or has hung up.
    Gone,
    /// Its time is over.
    Late,
    /// The system does not let us listen.
    Deaf(io::Error),
}

/// How a child has ended.
enum Ending {
    Status(ExitStatus),
    /// This process does not let its children be waited for (SIGCHLD is ignored), or something else in it
    /// has taken the answer.
    Unknown,
    /// We have killed it.
    Killed,
}

impl Watch {
    fn start(staged: &Staged, interface: &str) -> io::Result<Self> {
        let (control, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let (stderr, their_stderr) = io::pipe()?;
        let first = staged.libraries().iter().filter_map(Needed::opened_first);
        let first = first.flat_map(|(name, path)| [OsStr::new(name), path.as_os_str()]);
        // Not by name: the file may have been replaced, or deleted, since this process was started. In a group
        // of its own, so that what it starts can be ended with it, and Ctrl-C does not reach it.
        let child = Command::new("/proc/self/exe")
            .arg0(NAME)
            .arg(interface)
            .arg(&*staged.origin().given)
            .args(first)
            .stdin(staged.copy()?)
            .stdout(theirs)
            .stderr(their_stderr)
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("/proc/self/exe: {error}")))?;
        Ok(Self {
            child,
            control,
            stderr: Some(stderr),
            said: Vec::new(),
            reached: None,
            token: None,
            findings: Findings::default(),
        })
    }

    fn listen(&mut self, started: Instant, timeout: Duration) -> Verdict {
        loop {
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Verdict::Late;
            }
            match self.turn(left.min(TURN)) {
                Ok(Some(verdict)) => return verdict,
                Ok(None) => {}
                Err(error) => return Verdict::Deaf(error),
            }
        }
    }

    /// Hears what there is to hear.
    fn turn(&mut self, time: Duration) -> io::Result<Option<Verdict>> {
        let news = self.wait(time)?;
        if news.said {
            self.hear()?;
        }
        if news.reported {
            return self.receive();
        }
        // Only when there is nothing left to hear from it.
        Ok((!news.said && self.has_ended()).then_some(Verdict::Gone))
    }

    /// Waits for news, at most so long.
    fn wait(&self, time: Duration) -> io::Result<News> {
        let time = Timespec::try_from(time).map_err(io::Error::other)?;
        let mut all = vec![PollFd::new(&self.control, PollFlags::IN)];
        all.extend(
            self.stderr
                .as_ref()
                .map(|it| PollFd::new(it, PollFlags::IN)),
        );
        match poll(&mut all, Some(&time)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_news = |it: &PollFd<'_>| !it.revents().is_empty();
        Ok(News {
            reported: has_news(&all[0]),
            said: all.get(1).is_some_and(has_news),
        })
    }

    fn hear(&mut self) -> io::Result<()> {
        let Some(stderr) = &mut self.stderr else {
            return Ok(());
        };
        let mut chunk = [0; SAID_BYTES_MAX];
        let length = stderr.read(&mut chunk)?;
        if length == 0 {
            self.stderr = None;
        }
        self.said.extend(&chunk[..length]);
        let excess = self.said.len().saturating_sub(SAID_BYTES_MAX);
        self.said.drain(..excess);
        Ok(())
    }

    /// One message from the child.
    fn receive(&mut self) -> io::Result<Option<Verdict>> {
        let mut message = vec![0; MESSAGE_BYTES_MAX];
        let length = match recv(&self.control, &mut message[..], RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(Errno::INTR) => return Ok(None),
            Err(Errno::CONNRESET) => 0,
            Err(error) => return Err(error.into()),
        };
        if length == 0 {
            return Ok(Some(Verdict::Gone));
        }
        match Report::decode(&message[..length]) {
            Some(Report::Reached(stage)) => self.reached = Some(stage),
            Some(Report::Refused { kind, details }) => {
                return Ok(Some(Verdict::Refused { kind, details }));
            }
            Some(Report::Finished(findings)) if self.token.is_none() => {
                self.findings = findings;
                let mut token = Token::default();
                getrandom(&mut token, GetRandomFlags::empty())?;
                // Should the child be gone, that is the next news.
                let _ = send(&self.control, &token, SendFlags::NOSIGNAL);
                self.token = Some(token);
            }
            Some(Report::Token(token)) if self.token == Some(token) => {
                return Ok(Some(Verdict::Passed));
            }
            // Nobody of ours has said that.
            Some(Report::Finished(_) | Report::Token(_)) | None => {}
        }
        Ok(None)
    }

    /// Whether the child has ended; it stays to be waited for.
    fn has_ended(&self) -> bool {
        !matches!(self.look(), Ok(None))
    }

    /// How the child has ended, if it has; an error if there is none of ours any more.
    fn look(&self) -> rustix::io::Result<Option<WaitIdStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.child)), options)
    }

    /// Lets a child end that is about to, ends any other, and those that it has started.
    fn end(&mut self, verdict: &Verdict, started: Instant, timeout: Duration) -> Ending {
        let has_time = || started.elapsed() < timeout;
        if matches!(verdict, Verdict::Passed | Verdict::Gone) {
            let mut pause = Duration::from_micros(20);
            while !self.has_ended() && has_time() {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(5));
            }
        }
        let had_ended = self.has_ended();
        // Its number, and with it the group's, is not given to others before it was waited for. If something else
        // has done that, it may have been.
        if self.look().is_ok() {
            let _ = kill_process_group(Pid::from_child(&self.child), rustix::process::Signal::KILL);
        }
        match self.child.wait() {
            Ok(_) if !had_ended => Ending::Killed,
            Ok(status) => Ending::Status(status),
            Err(_) => Ending::Unknown,
        }
    }

    fn judge(
        &mut self,
        path: &Path,
        verdict: Verdict,
        ending: Ending,
        timeout: Duration,
    ) -> Result<()> {
        let stage = self.reached.unwrap_or(Stage::Trial);
        let refused = |kind| Err(Error::new(path, kind));
        match (verdict, ending) {
            (Verdict::Passed, Ending::Unknown) => Ok(()),
            (Verdict::Passed, Ending::Status(status)) if status.success() => Ok(()),
            (Verdict::Refused { kind, details }, _) => {
                let error = Error::new(path, kind);
                Err(if details.is_empty() {
                    error
                } else {
                    error.because(&details)
                })
            }
            (Verdict::Deaf(error), _) => {
                refused(ErrorKind::trial("it cannot be listened to: ", error))
            }
            (_, Ending::Killed) => refused(ErrorKind::TimedOut { stage, timeout }),
            (verdict, ending) => {
                self.hear_the_rest();
                let status = match ending {
                    Ending::Status(status) => Some(status),
                    Ending::Unknown | Ending::Killed => None,
                };
                refused(ErrorKind::Died {
                    stage,
                    exit_code: status.and_then(|it| it.code()),
                    signal: status.and_then(|it| it.signal()),
                    has_begun: self.reached.is_some(),
                    has_finished: matches!(verdict, Verdict::Passed),
                    said: self.last_line(),
                })
            }
        }
    }

    /// What a child that has ended has left in the pipe.
    fn hear_the_rest(&mut self) {
        while self.stderr.is_some() && self.wait(Duration::ZERO).is_ok_and(|news| news.said) {
            if self.hear().is_err() {
                return;
            }
        }
    }

    fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.said);
        let line = text.lines().rfind(|line| !line.trim().is_empty())?;
        Some(line.trim().to_owned())
    }
}

/// What there is to hear.
struct News {
    reported: bool,
    said: bool,
}
