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
    io,
    path::{Path, PathBuf},
};

use crate::{
    error::ErrorKind,
    system::{
        errno,
        place::Handle,
        status::{FileKind, Status},
        text,
    },
};

/// A regular file at the end of a path, opened for reading.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) file: File,
    /// The file's status after it was opened.
    pub(super) status: Status,
    /// The file's path, with all links followed.
    pub(super) real: PathBuf,
    pub(super) followed_link: bool,
}

/// A folder, a link or a regular file on the route.
pub(super) struct Place<'a> {
    pub(super) real: &'a Path,
    pub(super) status: &'a Status,
    pub(super) handle: &'a Handle,
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
        let file = place.open_for_reading()?;
        let status = Status::of(&file)?;
        Ok(trail.leads_to(&status)?.then_some((status, file)))
    });
    match opened {
        Ok(opened) => Ok(opened.map(|(status, file)| OpenedFile {
            file,
            status,
            real: trail.real,
            followed_link: trail.links > 0,
        })),
        Err(Stop::Refused(refusal)) => Err(refusal),
        Err(Stop::Failed(error)) if is_not_found(&error) => Err(ErrorKind::NotFound {
            is_link: trail.ends_in_link,
        }),
        Err(Stop::Failed(error)) => Err(ErrorKind::cannot_open(error)),
    }
}

/// Calls `look` with every place on the route, as far as it leads, and opens nothing. Returns the path at its end (if
/// it leads nowhere: of the first thing that is missing), and the handle of the regular file that is there.
pub(super) fn follow(
    path: &Path,
    mut look: impl FnMut(&Place<'_>),
) -> (PathBuf, io::Result<Handle>) {
    let mut trail = Trail::default();
    let file = trail.walk(path, |place| {
        look(place);
        Ok(())
    });
    let file = file.map_err(|stop| match stop {
        Stop::Failed(error) => error,
        Stop::Refused(refusal) => io::Error::other(refusal.to_string()),
    });
    (trail.real, file)
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
    handle: Handle,
    status: Status,
}

/// Why a walk ends early.
enum Stop {
    Failed(io::Error),
    Refused(ErrorKind),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ErrorKind> for Stop {
    fn from(refusal: ErrorKind) -> Self {
        Self::Refused(refusal)
    }
}

impl Trail {
    /// Walks to the regular file at the end of `path`, and returns its handle.
    fn walk(
        &mut self,
        path: &Path,
        mut look: impl FnMut(&Place<'_>) -> Result<(), ErrorKind>,
    ) -> Result<Handle, Stop> {
        // The names that are left, in reverse order.
        let mut ahead = Vec::new();
        push(&mut ahead, path.as_os_str());
        if path.is_relative() {
            push(&mut ahead, env::current_dir()?.as_os_str());
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
            let opened = self.here().handle.child(&name, is_last);
            self.real.push(&name);
            let next = opened?;
            let status = next.status()?;
            let place = Place {
                real: &self.real,
                status: &status,
                handle: &next,
            };
            match status.kind {
                FileKind::Directory => {
                    look(&place)?;
                    self.folders.push(WalkedFolder {
                        handle: next,
                        status,
                    });
                }
                FileKind::Symlink => {
                    look(&place)?;
                    self.ends_in_link |= is_last;
                    self.links += 1;
                    if self.links > LINKS_MAX {
                        return Err(io::Error::from_raw_os_error(errno::ELOOP).into());
                    }
                    let target = next.link_target()?;
                    self.real.pop();
                    if Path::new(&target).is_absolute() {
                        self.begin_at_top()?;
                    }
                    push(&mut ahead, &target);
                }
                FileKind::RegularFile if is_last => {
                    look(&place)?;
                    return Ok(next);
                }
                other if is_last => return Err(no_file(other).into()),
                _ => return Err(io::Error::from_raw_os_error(errno::ENOTDIR).into()),
            }
        }
        Err(no_file(FileKind::Directory).into())
    }

    fn begin_at_top(&mut self) -> io::Result<()> {
        let handle = Handle::top()?;
        let status = handle.status()?;
        self.real = PathBuf::from("/");
        self.folders = vec![WalkedFolder { handle, status }];
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
            status: &folder.status,
            handle: &folder.handle,
        }
    }

    /// Whether each name of the real path still leads to the place that the walk has checked, and the last one to
    /// `file`.
    fn leads_to(&self, file: &Status) -> io::Result<bool> {
        let inside = self.folders.iter().skip(1).map(|folder| &folder.status);
        let names = self.real.iter().skip(1);
        for ((folder, name), expected) in self.folders.iter().zip(names).zip(inside.chain([file])) {
            match folder.handle.status_of(name) {
                Ok(found) if found.id == expected.id => {}
                Err(error) if !is_not_found(&error) => return Err(error),
                Ok(_) | Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Puts the names of `path` before those in `ahead`.
fn push(ahead: &mut Vec<OsString>, path: &OsStr) {
    let path = path.as_encoded_bytes();
    // A trailing slash means a folder, as if `.` followed.
    if path.ends_with(b"/") {
        ahead.push(".".into());
    }
    let names = path.split(|byte| *byte == b'/').rev();
    let names = names.filter(|name| !name.is_empty());
    ahead.extend(names.map(text::from_bytes));
}

fn is_not_found(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

pub(super) fn no_file(kind: FileKind) -> ErrorKind {
    let found = match kind {
        FileKind::Directory => "a directory, not a file",
        FileKind::Fifo => "a FIFO, not a file",
        FileKind::Socket => "a socket, not a file",
        FileKind::Device => "a device, not a file",
        _ => "not a regular file",
    };
    ErrorKind::NotAFile { found }
}
