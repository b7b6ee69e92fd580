//! A child process that runs this program anew, and what such a child does first.

use std::{
    fs::File,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{self, Command, ExitStatus},
};

use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{
        Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process,
        kill_process_group, set_parent_process_death_signal, setrlimit, waitid,
    },
    stdio,
};

use super::connection::Connection;

/// A child in a process group of its own, so that what it starts can be ended along with it, and Ctrl-C does not reach
/// it.
pub(crate) struct Child(process::Child);

impl Child {
    /// Starts this program under `name` (its `argv[0]`), with what `prepare` adds.
    pub(crate) fn start(name: &str, prepare: impl FnOnce(&mut Command)) -> io::Result<Self> {
        // Not the executable's name: the file may have been replaced or deleted since this process was started.
        let program = "/proc/self/exe";
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

    /// Waits for the child's end.
    ///
    /// # Errors
    /// This process cannot wait for its children (it ignores SIGCHLD), or other code in it has taken the status.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }

    /// The child's status if it has ended. An error means that it cannot be waited for any more.
    fn look(&self) -> rustix::io::Result<Option<WaitIdStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.0)), options)
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
