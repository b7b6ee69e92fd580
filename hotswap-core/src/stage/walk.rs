//! From a path to an opened file, one name at a time.
//!
//! The kernel can walk a path by itself. But a name may get another meaning between that walk and a separate look at
//! the folders, so the look would see other folders than the kernel went through. So hotswap walks itself: it opens
//! every name in the folder before it, with a descriptor that only identifies the place (`O_PATH`), checks the place
//! through that descriptor, and continues from it. It opens the file at the end for reading through the very
//! descriptor that it checked, in `/proc/self/fd`. So it only ever opens regular files; opening a FIFO or a device
//! can wait, or have effects. Such a walk needs from the system what the kernel's own walk needs, and `/proc`, in
//! which the dynamic linker finds the copies too.
//!
//! Two things differ from the kernel's walk. A link in `/proc` to something without a path, such as a pipe, leads
//! nowhere. And `..` goes back to the folder that the walk came from, while the kernel asks the folder for its
//! parent, which is another one if somebody has moved it. So the real path of a walk is the route that it took. At
//! the end, the walk looks up each name on that path once more; if one has another meaning by then, the walk starts
//! again.
//!
//! This module does not know what a place is checked for.

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
use crate::{error::ErrorKind, file_id::FileId};

/// A regular file at the end of a path, opened for reading.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) file: File,
    /// The file's status after it was opened.
    pub(super) stat: Stat,
    /// The file's path, with all links followed.
    pub(super) real: PathBuf,
    pub(super) followed_link: bool,
}

/// A folder, a link or a regular file on the route.
pub(super) struct Place<'a> {
    pub(super) real: &'a Path,
    pub(super) stat: &'a Stat,
    /// Can only be used to identify the place (`O_PATH`).
    pub(super) descriptor: BorrowedFd<'a>,
}

/// The kernel follows as many.
const LINKS_MAX: usize = 40;

/// How many walks are started while names on the route keep changing. A walk takes some 20 µs.
const WALKS_MAX: usize = 16;

/// Opens the file at `path`, after `look` has accepted every place on the route, in order, and the file itself. Never
/// waits for anybody.
pub(super) fn open(
    path: &Path,
    mut look: impl FnMut(&Place<'_>) -> Result<(), ErrorKind>,
) -> Result<OpenedFile, ErrorKind> {
    for _ in 0..WALKS_MAX {
        if let Some(found) = open_once(path, &mut look)? {
            return Ok(found);
        }
    }
    let what = "the folders that lead to it keep changing";
    Err(ErrorKind::KeepsChanging { what })
}

/// `None`: at the end of the walk, its real path did not lead to the file any more.
fn open_once(
    path: &Path,
    look: impl FnMut(&Place<'_>) -> Result<(), ErrorKind>,
) -> Result<Option<OpenedFile>, ErrorKind> {
    let mut trail = Trail::default();
    let opened = trail.walk(path, look).and_then(|place| {
        let file = open_for_reading(&place)?;
        let stat = fs::fstat(&file)?;
        Ok(trail.leads_to(&stat)?.then_some((stat, file)))
    });
    match opened {
        Ok(opened) => Ok(opened.map(|(stat, file)| OpenedFile {
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

/// Calls `look` with every place on the route, as far as it leads, and opens nothing. Returns the path at its end (if
/// it leads nowhere: of the first thing that is missing), and an `O_PATH` descriptor if a regular file is there.
pub(super) fn follow(path: &Path, mut look: impl FnMut(&Place<'_>)) -> (PathBuf, Option<OwnedFd>) {
    let mut trail = Trail::default();
    let file = trail.walk(path, |place| {
        look(place);
        Ok(())
    });
    (trail.real, file.ok())
}

/// Opens the file of an `O_PATH` descriptor for reading. It must be a regular file: opening any other could wait, or
/// have effects.
pub(super) fn open_for_reading(file: &OwnedFd) -> rustix::io::Result<File> {
    // NONBLOCK: otherwise it waits for the end of a lease that somebody has on the file (`fcntl(2)`).
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(fs::open(proc::path(file), flags, Mode::empty())?.into())
}

/// The state of a walk.
#[derive(Default)]
struct Trail {
    /// The current path, without links and `..`.
    real: PathBuf,
    /// The folders of `real`, from `/` on.
    folders: Vec<WalkedFolder>,
    links: usize,
    /// Whether the last name of the path is a link.
    ends_in_link: bool,
}

/// A folder that the walk has gone through.
struct WalkedFolder {
    descriptor: OwnedFd,
    stat: Stat,
}

/// Why a walk ends early.
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
    /// Walks to the regular file at the end of `path`, and returns an `O_PATH` descriptor of it.
    fn walk(
        &mut self,
        path: &Path,
        mut look: impl FnMut(&Place<'_>) -> Result<(), ErrorKind>,
    ) -> Result<OwnedFd, Stop> {
        // The names that are left, in reverse order.
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
                    self.folders.push(WalkedFolder {
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
                    // Reads this very link: an empty path means the descriptor.
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
        self.folders = vec![WalkedFolder { descriptor, stat }];
        Ok(())
    }

    /// Goes back to the folder before this one. `/` is its own.
    fn go_back(&mut self) {
        self.real.pop();
        if self.folders.len() > 1 {
            self.folders.pop();
        }
    }

    /// The current folder.
    fn here(&self) -> Place<'_> {
        let folder = self.folders.last().expect("a walk begins at `/`");
        Place {
            real: &self.real,
            stat: &folder.stat,
            descriptor: folder.descriptor.as_fd(),
        }
    }

    /// Whether each name of the real path still leads to the place that the walk has checked, and the last one to
    /// `file`.
    fn leads_to(&self, file: &Stat) -> rustix::io::Result<bool> {
        let inside = self.folders.iter().skip(1).map(|folder| &folder.stat);
        let names = self.real.iter().skip(1);
        for ((folder, name), expected) in self.folders.iter().zip(names).zip(inside.chain([file])) {
            match fs::statat(&folder.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if FileId::of(&found) == FileId::of(expected) => {}
                Ok(_) | Err(Errno::NOENT) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Puts the names of `path` before those in `ahead`.
fn push(ahead: &mut Vec<OsString>, path: &OsStr) {
    let path = path.as_bytes();
    // A trailing slash means a folder, as if `.` followed.
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

/// Opens the place with this name in the folder `here`.
fn open_place(here: BorrowedFd<'_>, name: &OsStr, is_last: bool) -> rustix::io::Result<OwnedFd> {
    let open = |flags| fs::openat(here, name, flags, Mode::empty());
    if is_last {
        return open(PLACE);
    }
    // An automounted file system is mounted only for a caller that asks for a folder.
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
