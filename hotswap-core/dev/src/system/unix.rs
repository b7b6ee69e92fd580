//! Linux, macOS and other systems with the functions of POSIX.

use std::{
    fs::Metadata,
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::{Child, Command},
};

use rustix::process::{Pid, Signal, kill_process_group};

/// Why nothing is built on this system.
pub(crate) const NOT_SUPPORTED: Option<&str> = None;

/// Tells a file from all others that exist at the same time: its device, and its number there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FileId(u64, u64);

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// A child, which leads a group of its own with all that it starts. It was not waited for yet, so that no other group
/// has this number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group(Pid);

impl Group {
    /// Has a child lead a group. A Ctrl-C on the terminal does not reach it.
    pub(crate) fn lead(command: &mut Command) {
        command.process_group(0);
    }

    pub(crate) fn of(child: &Child) -> Self {
        Self(Pid::from_child(child))
    }

    /// Ends all of it, at once.
    pub(crate) fn kill(self) {
        // An error: it has ended.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}
