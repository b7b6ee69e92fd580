//! A child process that runs this program anew, and what such a child does first.

use std::{
    fs::{self, File},
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{self, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{
        Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process,
        kill_process_group, set_parent_process_death_signal, setrlimit, waitid,
    },
    stdio,
};

use super::{connection::Connection, linker};

/// The time in which a child that was killed ends, unless the kernel waits for something on its behalf, such as a
/// server of files.
const KILLED_TIMEOUT: Duration = Duration::from_secs(10);

/// A child in a process group of its own, so that what it starts can be ended along with it, and Ctrl-C does not reach
/// it.
pub(crate) struct Child(process::Child);

impl Child {
    /// Starts this program under `name` (its `argv[0]`), with what `prepare` adds.
    ///
    /// # Errors
    /// The system's; or this program was started by way of the dynamic linker, so that nothing leads to its file.
    pub(crate) fn start(name: &str, prepare: impl FnOnce(&mut Command)) -> io::Result<Self> {
        // Not the executable's name: the file may have been replaced or deleted since this process was started.
        let program = "/proc/self/exe";
        if linker::has_started_this_program() {
            return Err(io::Error::other(
                "this program was started by way of the dynamic linker (`ld.so PROGRAM`): start it by its own path",
            ));
        }
        let mut command = Command::new(program);
        command.arg0(name).process_group(0);
        prepare(&mut command);
        let child = command.spawn();
        child
            .map(Self)
            .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))
    }

    /// Whether the child has ended. It can still be waited for after this.
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.look(), Ok(None))
    }

    /// Waits at most `time` for the child's end. Returns whether it has ended.
    pub(crate) fn ends_within(&self, time: Duration) -> bool {
        let begin = Instant::now();
        let mut pause = Duration::from_micros(20);
        while !self.has_ended() {
            if begin.elapsed() >= time {
                return false;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
        true
    }

    /// The signal that has stopped the child, if it is stopped.
    pub(crate) fn stopped_by(&self) -> Option<i32> {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(Pid::from_child(&self.0)), options);
        status.ok()??.stopping_signal()
    }

    /// Kills the child, and the processes of its group.
    pub(crate) fn kill_group(&self) {
        // The system reuses the number of the child, and of its group, only after the child was waited for. If `look`
        // fails, other code has done that, so the number may belong to others: do not kill.
        if self.look().is_ok() {
            let pid = Pid::from_child(&self.0);
            let _ = kill_process_group(pid, Signal::KILL);
            // It may have joined another group.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Waits for the end of a child that has ended or was killed.
    ///
    /// # Errors
    /// This process cannot wait for its children (it ignores SIGCHLD), other code in it has taken the status, or the
    /// child has not ended within [`KILLED_TIMEOUT`].
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        if self.ends_within(KILLED_TIMEOUT) {
            self.0.wait()
        } else {
            Err(io::ErrorKind::TimedOut.into())
        }
    }

    /// The child's status if it has ended. An error means that it cannot be waited for any more.
    fn look(&self) -> rustix::io::Result<Option<WaitIdStatus>> {
        let look = || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            let status = waitid(WaitId::Pid(Pid::from_child(&self.0)), options)?;
            // Of a child that is traced, the system also tells that it has stopped.
            Ok(status.filter(|it| it.exited() || it.killed() || it.dumped()))
        };
        match look() {
            Ok(None) => {
                self.reap_traced_threads();
                look()
            }
            status => status,
        }
    }

    /// Takes the status of threads of the child that this process traces, and that have ended.
    ///
    /// A thread makes its parent trace it by `PTRACE_TRACEME` ([`ptrace(2)`]). Until the tracer has taken the status of
    /// such a thread, the system does not tell that the child has ended.
    ///
    /// [`ptrace(2)`]: https://man7.org/linux/man-pages/man2/ptrace.2.html
    fn reap_traced_threads(&self) {
        // In the `/proc` of an outer PID namespace, the numbers are those of others.
        let this = process::id().to_string();
        if !fs::read_link("/proc/self").is_ok_and(|it| *it == *this) {
            return;
        }
        let child = Pid::from_child(&self.0);
        let threads = fs::read_dir(format!("/proc/{child}/task"));
        let threads = threads.into_iter().flatten().flatten();
        let numbers = threads.filter_map(|it| it.file_name().to_str()?.parse().ok());
        for thread in numbers.filter_map(Pid::from_raw).filter(|it| *it != child) {
            // An error: it is not traced.
            let _ = waitid(
                WaitId::Pid(thread),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            );
        }
    }
}

/// The number of the signal that has ended a child, if one has.
pub(crate) fn signal(status: ExitStatus) -> Option<i32> {
    status.signal()
}

/// Has the system kill this process when its parent's thread that started it ends.
pub(crate) fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Has the system write no core dumps of this process.
pub(crate) fn write_no_core_dumps() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, none)?)
}

/// What standard input and standard output lead to now, a file and a connection, under other numbers. No program that
/// this process starts inherits them.
pub(crate) fn standard_streams() -> io::Result<(File, Connection)> {
    /// The standard streams have the numbers below.
    const FIRST: i32 = 3;
    let input = fcntl_dupfd_cloexec(stdio::stdin(), FIRST)?;
    let output = fcntl_dupfd_cloexec(stdio::stdout(), FIRST)?;
    Ok((input.into(), Connection::of(output)))
}

/// A file that is empty, and that forgets what is written to it. The error says which.
pub(crate) fn nowhere() -> io::Result<File> {
    let nowhere = "/dev/null";
    let file = File::options().read(true).write(true).open(nowhere);
    file.map_err(|error| io::Error::new(error.kind(), format!("{nowhere}: {error}")))
}

/// Has standard input and standard output lead to this file.
pub(crate) fn redirect_standard_streams(file: &File) -> io::Result<()> {
    stdio::dup2_stdin(file)?;
    Ok(stdio::dup2_stdout(file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_not_in_its_group_is_killed() {
        // In the group of this process, as if it had joined that.
        let mut child = Child(Command::new("sleep").arg("600").spawn().unwrap());
        child.kill_group();
        assert_eq!(signal(child.wait().unwrap()), Some(9));
    }
}
