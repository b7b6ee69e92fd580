//! The processes that may die, as their parent sees them.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    cases::{Case, Demand, Fixtures},
    crash,
    host::{AfterSwap, encode},
    report::Row,
};

/// A subject that has not answered after this time counts as hung.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a plain `dlopen`, which has less to do and hangs more often.
const PLAIN_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// One case in this many is given to a plain `dlopen`. It is only there for comparison, and needs a process for each
/// case.
const PLAIN_EVERY: usize = 5;

/// A kind of process that is given candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A process that opens the candidate with `dlopen`, without any check.
    Plain,
    /// A host that swaps the candidate in.
    Host,
    /// A host that runs a trial of the candidate first.
    Tried,
}

/// All subjects, in the order of the report and of the type.
pub(crate) const SUBJECTS: [Subject; 3] = [Subject::Plain, Subject::Host, Subject::Tried];

/// The subjects that are hosts.
pub(crate) fn hosts() -> impl Iterator<Item = Subject> {
    let is_host = |subject: &Subject| *subject != Subject::Plain;
    SUBJECTS.into_iter().filter(is_host)
}

/// The outcome for the candidate and the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    /// Accepted, and still mapped although nobody uses it.
    Stays,
    /// Refused, with the reason.
    Refused(String),
    /// The subject died: how, and where ([`crash::place`]) if it reports that.
    Died(String, Option<&'static str>),
    Hung,
    /// The subject lives, but answers wrongly.
    Wrong(String),
}

/// A child process that answers each line with a line.
struct Process {
    child: Child,
    requests: Option<ChildStdin>,
    answers: Receiver<String>,
    /// The reports of its crashes, and what it has said before it aborted.
    crashes: Receiver<String>,
    /// The folder of what only plugins need.
    libraries: String,
    timeout: Duration,
}

/// A host process, and the build that is live in it.
pub(crate) struct Host {
    process: Process,
    live: u64,
}

/// Gives cases to subjects, one after another. A host process serves until something happens to it.
pub(crate) struct Worker<'a> {
    fixtures: &'a Fixtures,
    path: PathBuf,
    /// One for each subject that is a host.
    hosts: [Option<Host>; SUBJECTS.len()],
}

impl<'a> Worker<'a> {
    pub(crate) fn new(fixtures: &'a Fixtures, number: usize) -> Self {
        let path = fixtures.folder.join(format!("candidate {number}.so"));
        Self {
            fixtures,
            path,
            hosts: SUBJECTS.map(|_| None),
        }
    }

    pub(crate) fn row(&mut self, number: usize, case: &Case) -> Row {
        let path = case.candidate.path(&self.path);
        let mut row = Row::new(case);
        for subject in SUBJECTS {
            let outcome = match subject {
                Subject::Plain if !number.is_multiple_of(PLAIN_EVERY) => continue,
                Subject::Plain => plain(&path, self.fixtures),
                host => self.ask(host, case, &path),
            };
            row.add(case, subject, outcome);
        }
        row
    }

    fn ask(&mut self, subject: Subject, case: &Case, path: &Path) -> Outcome {
        let host = &mut self.hosts[subject as usize];
        let mut serving = match host.take() {
            Some(host) => host,
            None => match Host::start(self.fixtures, subject, |_| {}) {
                Ok(host) => host,
                Err(outcome) => return outcome,
            },
        };
        let outcome = serving.ask(AfterSwap::GoBack, path, &[case.build]);
        match outcome {
            // A host that ran damaged code may die later, and a later case must not be blamed for that.
            Outcome::Accepted | Outcome::Stays
                if matches!(case.host, Demand::Anything | Demand::OtherCode) =>
            {
                serving.end().err().unwrap_or(outcome)
            }
            Outcome::Accepted | Outcome::Stays | Outcome::Refused(_) => {
                *host = Some(serving);
                outcome
            }
            Outcome::Died(..) | Outcome::Hung | Outcome::Wrong(_) => outcome,
        }
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        for host in self.hosts.iter_mut().filter_map(Option::take) {
            assert_eq!(host.end(), Ok(()), "a host does not end as it should");
        }
    }
}

impl Host {
    /// Starts a host. `change` edits the command before the start.
    pub(crate) fn start(
        fixtures: &Fixtures,
        subject: Subject,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self, Outcome> {
        let mut command = command(fixtures);
        command.arg("host").arg(&fixtures.good.path);
        command.arg(format!("{subject:?}"));
        change(&mut command);
        let mut process = Process::start(fixtures, command, ANSWER_TIMEOUT);
        match process.answer() {
            Ok(answer) if answer == "ready" => Ok(Self {
                process,
                live: fixtures.good.build,
            }),
            Ok(answer) => Err(Outcome::Wrong(format!("{answer:?} at the start"))),
            Err(outcome) => Err(outcome),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Lets the host swap in a candidate, and checks its answers. If the candidate is accepted, its build is one of
    /// `builds`.
    pub(crate) fn ask(&mut self, then: AfterSwap, path: &Path, builds: &[u64]) -> Outcome {
        let answer = match self.process.ask(&encode(then, path)) {
            Ok(answer) => answer,
            Err(outcome) => return outcome,
        };
        let words: Vec<&str> = answer.splitn(4, ' ').collect();
        let live = [self.live];
        let (outcome, expected) = match words[..] {
            [_, _, "accepted"] => (Outcome::Accepted, builds),
            [_, _, "stays"] => (Outcome::Stays, builds),
            [_, _, "refused", why] => (Outcome::Refused(why.to_owned()), &live[..]),
            _ => return Outcome::Wrong(answer),
        };
        let said = |build: &&u64| words[..2].iter().all(|word| *word == build.to_string());
        let Some(build) = expected.iter().find(said) else {
            return Outcome::Wrong(answer);
        };
        if then == AfterSwap::Stay {
            self.live = *build;
        }
        outcome
    }

    /// Closes the host's input, and checks that it ends normally.
    pub(crate) fn end(mut self) -> Result<(), Outcome> {
        self.process.requests = None;
        match self.process.answer() {
            Err(Outcome::Died(how, _)) if how == ENDED_WELL => Ok(()),
            Err(outcome) => Err(outcome),
            Ok(answer) => Err(Outcome::Wrong(answer)),
        }
    }
}

/// Gives one candidate to a new process that opens it without any check.
fn plain(path: &Path, fixtures: &Fixtures) -> Outcome {
    let mut command = command(fixtures);
    command.arg("plain");
    let mut process = Process::start(fixtures, command, PLAIN_ANSWER_TIMEOUT);
    let answer = match process.ask(&encode(AfterSwap::GoBack, path)) {
        Ok(answer) => answer,
        Err(outcome) => return outcome,
    };
    match process.answer() {
        Err(Outcome::Died(how, _)) if how == ENDED_WELL => match answer.strip_prefix("refused ") {
            Some(why) => Outcome::Refused(why.to_owned()),
            None => Outcome::Accepted,
        },
        Err(outcome) => outcome,
        Ok(answer) => Outcome::Wrong(answer),
    }
}

/// A command that starts this program in another mode.
pub(crate) fn command(fixtures: &Fixtures) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    // In this folder candidates find the libraries that only they need.
    command.env("LD_LIBRARY_PATH", &fixtures.libraries);
    command
}

const ENDED_WELL: &str = "exit code 0";

impl Process {
    fn start(fixtures: &Fixtures, mut command: Command, timeout: Duration) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        let mut child = command.spawn().expect("this program runs");
        let answers = lines(child.stdout.take().expect("piped"), |_| true);
        let crashes = lines(child.stderr.take().expect("piped"), |line| {
            line.starts_with(crash::MARK) || line.starts_with(crash::FOREIGN_PANIC)
        });
        Self {
            requests: child.stdin.take(),
            child,
            answers,
            crashes,
            libraries: format!("{}/", fixtures.libraries.display()),
            timeout,
        }
    }

    fn ask(&mut self, request: &str) -> Result<String, Outcome> {
        if let Some(requests) = &mut self.requests {
            // If the process has gone, reading its answer tells how it ended.
            let _ = writeln!(requests, "{request}");
        }
        self.answer()
    }

    /// The process's next line, or how it ended.
    fn answer(&mut self) -> Result<String, Outcome> {
        match self.answers.recv_timeout(self.timeout) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => Err(Outcome::Hung),
            Err(RecvTimeoutError::Disconnected) => Err(self.end()),
        }
    }

    /// The process has closed its output. Waits, and says how it ended.
    fn end(&mut self) -> Outcome {
        let started = Instant::now();
        while started.elapsed() < self.timeout {
            match self.child.try_wait().expect("a child of ours") {
                Some(status) => return self.died(status),
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
        Outcome::Hung
    }

    /// How it has ended, and where if it has crashed.
    fn died(&self, status: ExitStatus) -> Outcome {
        let how = describe(status);
        let next = || self.crashes.recv_timeout(self.timeout).ok();
        let first = next();
        let is_panic = |it: &String| it.starts_with(crash::FOREIGN_PANIC);
        let had_panic = first.as_ref().is_some_and(is_panic);
        match if had_panic { next() } else { first } {
            Some(line) => {
                let place = match had_panic {
                    true => crash::AT_PANIC,
                    false => crash::place(&line, &self.libraries),
                };
                Outcome::Died(format!("{how}: {line}"), Some(place))
            }
            None => Outcome::Died(how, None),
        }
    }
}

/// The lines that a process writes and that are asked for, until it closes its end.
fn lines(output: impl Read + Send + 'static, is_asked_for: fn(&str) -> bool) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            if is_asked_for(&line) && sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended already; then these calls fail, which does not matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => SIGNALS
            .iter()
            .find(|(number, _)| *number == signal)
            .map_or(format!("signal {signal}"), |(_, name)| (*name).to_owned()),
        (None, code) => format!("exit code {}", code.unwrap_or_default()),
    }
}

const SIGNALS: [(i32, &str); 8] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGTRAP, "SIGTRAP"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGKILL, "SIGKILL"),
];
