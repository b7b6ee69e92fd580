//! The processes that may die, seen from outside.

use std::{
    env,
    io::{BufRead, BufReader, Write},
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
    host::{Then, encode},
    report::Row,
};

/// After this time a subject that has not answered counts as hung.
const DEADLINE: Duration = Duration::from_secs(10);
/// The same for a plain `dlopen`, which has less to do, and hangs more often.
const PLAIN_DEADLINE: Duration = Duration::from_secs(2);

/// One case of so many is given to a plain `dlopen`, which is there for comparison, and takes a process each.
const PLAIN_EVERY: usize = 5;

/// Who is given a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A process that opens it with `dlopen`, without any look at it.
    Plain,
    /// A host that swaps it in.
    Host,
    /// A host that tries it first.
    Tried,
}

/// All of them, in the order of the report and of the type.
pub(crate) const SUBJECTS: [Subject; 3] = [Subject::Plain, Subject::Host, Subject::Tried];

/// Those that are hosts.
pub(crate) fn hosts() -> impl Iterator<Item = Subject> {
    let is_host = |subject: &Subject| *subject != Subject::Plain;
    SUBJECTS.into_iter().filter(is_host)
}

/// What became of a candidate, and of the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    /// Accepted, and still mapped although nobody uses it.
    Stays,
    /// With the reason.
    Refused(String),
    /// How, and where if that was told.
    Died(String),
    Hung,
    /// It lives, and answers what it should not.
    Wrong(String),
}

/// A process that answers lines with lines.
struct Process {
    child: Child,
    requests: Option<ChildStdin>,
    answers: Receiver<String>,
    deadline: Duration,
}

/// A host, and the build that is live in it.
pub(crate) struct Host {
    process: Process,
    live: u64,
}

/// Gives cases to subjects, one after another. Hosts serve until something happens to them.
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
        let outcome = serving.ask(Then::GoBack, path, &[case.build]);
        match outcome {
            // What ran damaged code may die of it later, and then another case must not be blamed.
            Outcome::Accepted | Outcome::Stays if case.host == Demand::Anything => {
                serving.end().err().unwrap_or(outcome)
            }
            Outcome::Accepted | Outcome::Stays | Outcome::Refused(_) => {
                *host = Some(serving);
                outcome
            }
            Outcome::Died(_) | Outcome::Hung | Outcome::Wrong(_) => outcome,
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
    /// Starts one, with a change to how it is started.
    pub(crate) fn start(
        fixtures: &Fixtures,
        subject: Subject,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self, Outcome> {
        let mut command = command(fixtures);
        command.arg("host").arg(&fixtures.good.path);
        command.arg(format!("{subject:?}"));
        change(&mut command);
        let mut process = Process::start(command, DEADLINE);
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

    /// Lets it swap a candidate in, which is one of `builds` if it is accepted, and checks its answers.
    pub(crate) fn ask(&mut self, then: Then, path: &Path, builds: &[u64]) -> Outcome {
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
        if then == Then::Stay {
            self.live = *build;
        }
        outcome
    }

    /// Lets it end in peace.
    pub(crate) fn end(mut self) -> Result<(), Outcome> {
        self.process.requests = None;
        match self.process.answer() {
            Err(Outcome::Died(how)) if how == ENDED_WELL => Ok(()),
            Err(outcome) => Err(outcome),
            Ok(answer) => Err(Outcome::Wrong(answer)),
        }
    }
}

/// One candidate for a process of its own that looks at nothing.
fn plain(path: &Path, fixtures: &Fixtures) -> Outcome {
    let mut command = command(fixtures);
    command.arg("plain");
    let mut process = Process::start(command, PLAIN_DEADLINE);
    let answer = match process.ask(&encode(Then::GoBack, path)) {
        Ok(answer) => answer,
        Err(outcome) => return outcome,
    };
    match process.answer() {
        Err(Outcome::Died(how)) if how == ENDED_WELL => match answer.strip_prefix("refused ") {
            Some(why) => Outcome::Refused(why.to_owned()),
            None => Outcome::Accepted,
        },
        Err(outcome) => outcome,
        Ok(answer) => Outcome::Wrong(answer),
    }
}

/// This program, in another of its modes.
pub(crate) fn command(fixtures: &Fixtures) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    // Where candidates find the libraries that they need and nobody else has.
    command.env("LD_LIBRARY_PATH", &fixtures.libraries);
    command
}

const ENDED_WELL: &str = "exit code 0";

impl Process {
    fn start(mut command: Command, deadline: Duration) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // What a dying process says is no matter here: how it died is.
        command.stderr(Stdio::null());
        let mut child = command.spawn().expect("this program runs");
        let output = child.stdout.take().expect("piped");
        let (sender, answers) = mpsc::channel();
        // Ends with the process's output.
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { return };
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    return;
                }
            }
        });
        Self {
            requests: child.stdin.take(),
            child,
            answers,
            deadline,
        }
    }

    fn ask(&mut self, request: &str) -> Result<String, Outcome> {
        if let Some(requests) = &mut self.requests {
            // A process that is no longer there answers by that.
            let _ = writeln!(requests, "{request}");
        }
        self.answer()
    }

    /// Its next line, or how it ended.
    fn answer(&mut self) -> Result<String, Outcome> {
        match self.answers.recv_timeout(self.deadline) {
            Ok(answer) => match answer.strip_prefix(crash::MARK) {
                Some(place) => Err(match self.end() {
                    Outcome::Died(how) => Outcome::Died(format!("{how} {place}")),
                    other => other,
                }),
                None => Ok(answer),
            },
            Err(RecvTimeoutError::Timeout) => Err(Outcome::Hung),
            Err(RecvTimeoutError::Disconnected) => Err(self.end()),
        }
    }

    /// It has closed its output: how it ends.
    fn end(&mut self) -> Outcome {
        let started = Instant::now();
        while started.elapsed() < self.deadline {
            match self.child.try_wait().expect("a child of ours") {
                Some(status) => return Outcome::Died(describe(status)),
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
        Outcome::Hung
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
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
