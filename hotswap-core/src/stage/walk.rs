//! From a path to an opened file, one name at a time.
//!
//! The kernel would walk a path by itself. But whoever looks at the folders beside that walk looks at others
//! than were walked through, should a name be given to something else meanwhile. So we walk: every name is
//! opened in the folder before it, with a descriptor that only stands for what has that name (`O_PATH`); that
//! descriptor is looked at, and gone on from. The file at the end is opened for reading by way of the very
//! descriptor that was looked at, in `/proc/self/fd`, so that nothing but a regular file is ever opened: to
//! open a FIFO or a device can wait, or do something. What such a walk needs of the system is what the kernel
//! needs for its own, and `/proc`, in which the dynamic linker finds our copies as well.
//!
//! Two things differ from the kernel's walk. The links in `/proc` that lead to something that has no path, such
//! as a pipe, lead nowhere. And `..` goes back to the very folder that the walk came from: the kernel asks the folder
//! for its parent, which is another one once somebody has moved it. So the real path that a walk gives is the one it
//! took. When it has ended, each name on that path is looked up once more; if one of them has another meaning by
//! then, the walk begins again.
//!
//! What is looked for is not known here.

#[cfg(test)]
mod tests;

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::proc;
use crate::error::ErrorKind;

/// A regular file at the end of a path, opened for reading.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: File,
    /// As it was after it was opened.
    pub(super) stat: Stat,
    /// Where it is, with all links followed.
    pub(super) real: PathBuf,
    pub(super) followed_link: bool,
}

/// A folder, a link or a regular file that is on the way.
pub(super) struct Place<'a> {
    pub(super) real: &'a Path,
    pub(super) stat: &'a Stat,
    /// Good for nothing but to say what it is (`O_PATH`).
    pub(super) descriptor: BorrowedFd<'a>,
}

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// How many walks are begun while names on the way keep changing their meaning. One takes some 20 µs.
const WALKS_MAX: usize = 16;

/// Opens the file at `path`, after `look` has agreed to every place on the way, in order, and to the file
/// itself. Never waits for anybody.
pub(super) fn open(
    path: &Path,
    mut look: impl FnMut(&Place<'_>) -> Result<(), ErrorKind>,
) -> Result<Found, ErrorKind> {
    for _ in 0..WALKS_MAX {
        if let Some(found) = open_once(path, &mut look)? {
            return Ok(found);
        }
    }
    let what = "the folders that lead to it keep changing";
    Err(ErrorKind::KeepsChanging { what })
}

/// `None`: when the walk had ended, its real path did not lead to the file any more.
fn open_once(
    path: &Path,
    look: impl FnMut(&Place<'_>) -> Result<(), ErrorKind>,
) -> Result<Option<Found>, ErrorKind> {
    let mut trail = Trail::default();
    let opened = trail.walk(path, look).and_then(|place| {
        let file = open_for_reading(&place)?;
        let stat = fs::fstat(&file)?;
        Ok(trail.leads_to(&stat)?.then_some((stat, file)))
    });
    match opened {
        Ok(opened) => Ok(opened.map(|(stat, file)| Found {
            file,
            stat,
            real: trail.real,
            followed_link: trail.links > 0,
        })),
        Err(Stop::Refused(refusal)) => Err(refusal),
        Err(Stop::Failed(Errno::NOENT)) => Err(ErrorKind::NotFound {
            is_link: trail.ends_in_link,
        }),
        Err(Stop::Failed(error)) => Err(ErrorKind::cannot_open(error)),
    }
}

/// Tells `look` of every place on the way, as far as it leads, and opens nothing. Gives where it ends (if it
/// leads nowhere, the place where something was missing), and what stands for the file if that is one.
pub(super) fn follow(path: &Path, mut look: impl FnMut(&Place<'_>)) -> (PathBuf, Option<OwnedFd>) {
    let mut trail = Trail::default();
    let file = trail.walk(path, |place| {
        look(place);
        Ok(())
    });
    (trail.real, file.ok())
}

/// Opens for reading what a descriptor stands for that is good for nothing else. A regular file: any other
/// could wait, or do something.
pub(super) fn open_for_reading(file: &OwnedFd) -> rustix::io::Result<File> {
    // NONBLOCK: does not even wait for the end of a lease that somebody has on the file (`fcntl(2)`).
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(fs::open(proc::path(file), flags, Mode::empty())?.into())
}

/// How far a walk has come.
#[derive(Default)]
struct Trail {
    /// Where it is: no links, and no `..`.
    real: PathBuf,
    /// The folders that `real` leads through, from `/` on.
    folders: Vec<Folder>,
    links: usize,
    /// Whether what the path itself says last is a link.
    ends_in_link: bool,
}

/// A folder that a walk has looked at.
struct Folder {
    descriptor: OwnedFd,
    stat: Stat,
}

/// Why a walk goes no further.
enum Stop {
    Failed(Errno),
    Refused(ErrorKind),
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}

impl From<ErrorKind> for Stop {
    fn from(refusal: ErrorKind) -> Self {
        Self::Refused(refusal)
    }
}

impl Trail {
    /// Gives what stands for the regular file at the end of `path`.
    fn walk(
        &mut self,
        path: &Path,
        mut look: impl FnMut(&Place<'_>) -> Result<(), ErrorKind>,
    ) -> Result<OwnedFd, Stop> {
        // The names that are left, the next one last.
        let mut ahead = Vec::new();
        push(&mut ahead, path.as_os_str());
        if path.is_relative() {
            let current = env::current_dir();
            let current =
                current.map_err(|it| Errno::from_io_error(&it).unwrap_or(Errno::NOENT))?;
            push(&mut ahead, current.as_os_str());
        }

        self.begin_at_top()?;
        look(&self.here())?;
        while let Some(name) = ahead.pop() {
            if name == "." {
                continue;
            }
            if name == ".." {
                self.go_back();
                look(&self.here())?;
                continue;
            }
            let is_last = ahead.is_empty();
            let opened = open_place(self.here().descriptor, &name, is_last);
            self.real.push(&name);
            let next = opened?;
            let stat = fs::fstat(&next)?;
            let place = Place {
                real: &self.real,
                stat: &stat,
                descriptor: next.as_fd(),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    look(&place)?;
                    self.folders.push(Folder {
                        descriptor: next,
                        stat,
                    });
                }
                FileType::Symlink => {
                    look(&place)?;
                    self.ends_in_link |= is_last;
                    self.links += 1;
                    if self.links > LINKS_MAX {
                        return Err(Errno::LOOP.into());
                    }
                    // What that very link says: an empty path means the descriptor.
                    let target = fs::readlinkat(&next, "", Vec::new())?;
                    let target = OsStr::from_bytes(target.as_bytes());
                    self.real.pop();
                    if Path::new(target).is_absolute() {
                        self.begin_at_top()?;
                    }
                    push(&mut ahead, target);
                }
                FileType::RegularFile if is_last => {
                    look(&place)?;
                    return Ok(next);
                }
                other if is_last => return Err(no_file(other).into()),
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        Err(no_file(FileType::Directory).into())
    }

    fn begin_at_top(&mut self) -> rustix::io::Result<()> {
        let descriptor = open_top()?;
        let stat = fs::fstat(&descriptor)?;
        self.real = PathBuf::from("/");
        self.folders = vec![Folder { descriptor, stat }];
        Ok(())
    }

    /// To the folder before this one. There is none before `/`.
    fn go_back(&mut self) {
        self.real.pop();
        if self.folders.len() > 1 {
            self.folders.pop();
        }
    }

    /// The folder that the walk is in.
    fn here(&self) -> Place<'_> {
        let folder = self.folders.last().expect("a walk begins at `/`");
        Place {
            real: &self.real,
            stat: &folder.stat,
            descriptor: folder.descriptor.as_fd(),
        }
    }

    /// Whether each name of the real path still means what was looked at under it, and the last one this file.
    fn leads_to(&self, file: &Stat) -> rustix::io::Result<bool> {
        let identity = |stat: &Stat| (stat.st_dev, stat.st_ino);
        let inside = self.folders.iter().skip(1).map(|folder| &folder.stat);
        let names = self.real.iter().skip(1);
        for ((folder, name), expected) in self.folders.iter().zip(names).zip(inside.chain([file])) {
            match fs::statat(&folder.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if identity(&found) == identity(expected) => {}
                Ok(_) | Err(Errno::NOENT) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Puts the names of `path` before those that are `ahead`.
fn push(ahead: &mut Vec<OsString>, path: &OsStr) {
    let path = path.as_bytes();
    // As if it went on: what a slash follows must be a folder.
    if path.ends_with(b"/") {
        ahead.push(".".into());
    }
    let names = path.split(|byte| *byte == b'/').rev();
    let names = names.filter(|name| !name.is_empty());
    ahead.extend(names.map(|name| OsStr::from_bytes(name).to_owned()));
}

fn open_top() -> rustix::io::Result<OwnedFd> {
    fs::open("/", PLACE | OFlags::DIRECTORY, Mode::empty())
}

const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What has this name in the folder `here`.
fn open_place(here: BorrowedFd<'_>, name: &OsStr, is_last: bool) -> rustix::io::Result<OwnedFd> {
    let open = |flags| fs::openat(here, name, flags, Mode::empty());
    if is_last {
        return open(PLACE);
    }
    // Only who asks for a folder has a file system mounted that is mounted when it is needed.
    match open(PLACE | OFlags::DIRECTORY) {
        Err(Errno::NOTDIR) => open(PLACE),
        other => other,
    }
}

fn no_file(kind: FileType) -> ErrorKind {
    let found = match kind {
        FileType::Directory => "a directory, not a file",
        FileType::Fifo => "a FIFO, not a file",
        FileType::Socket => "a socket, not a file",
        FileType::CharacterDevice | FileType::BlockDevice => "a device, not a file",
        _ => "not a regular file",
    };
    ErrorKind::NotAFile { found }
}
