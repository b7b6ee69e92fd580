//! A swap without this library: copy the file, `dlopen` the copy, `dlclose` it later.
//!
//! It checks nothing, and it cannot know whether a thread is still inside the image.

use std::{
    fs::{self, File},
    io::Write,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};
use rustix::fs::{MemfdFlags, memfd_create};
use tempfile::TempPath;

use crate::Result;

/// The kind of copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    /// `std::fs::copy` to a new file in the folder for temporary files.
    File,
    /// A memory file, as this library uses.
    Memory,
}

/// An open image, and its copy, which must outlive it.
pub(crate) struct Opened {
    library: Library,
    copied: Copied,
}

/// How long the steps took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Steps {
    pub(crate) copy: Duration,
    pub(crate) open: Duration,
    pub(crate) close: Duration,
}

impl Steps {
    pub(crate) fn sum(self) -> Duration {
        self.copy + self.open + self.close
    }
}

/// A copy; dropping it deletes it.
enum Copied {
    File(TempPath),
    Memory(OwnedFd),
}

impl Copied {
    fn new(path: &Path, copy: Copy) -> Result<Self> {
        Ok(match copy {
            Copy::File => {
                let file = tempfile::Builder::new().suffix(".so").tempfile()?;
                let file = file.into_temp_path();
                fs::copy(path, &file)?;
                Self::File(file)
            }
            Copy::Memory => {
                let bytes = fs::read(path)?;
                let mut file = File::from(memfd_create("by-hand", MemfdFlags::CLOEXEC)?);
                file.write_all(&bytes)?;
                Self::Memory(file.into())
            }
        })
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::File(file) => file.to_path_buf(),
            Self::Memory(file) => format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd()).into(),
        }
    }
}

/// Copies and opens a file.
pub(crate) fn load(path: &Path, copy: Copy) -> Result<(Opened, Steps)> {
    let started = Instant::now();
    let copied = Copied::new(path, copy)?;
    let copy = started.elapsed();
    let library = open(&copied.path())?;
    let steps = Steps {
        copy,
        open: started.elapsed() - copy,
        close: Duration::ZERO,
    };
    let opened = Opened { library, copied };
    Ok((opened, steps))
}

/// How long copying into a memory file takes.
pub(crate) fn copy(path: &Path) -> Result<Duration> {
    let started = Instant::now();
    Copied::new(path, Copy::Memory)?;
    Ok(started.elapsed())
}

/// Copies, opens and closes a file.
pub(crate) fn cycle(path: &Path, copy: Copy) -> Result<Steps> {
    let (opened, steps) = load(path, copy)?;
    let Opened { library, copied } = opened;
    let started = Instant::now();
    library.close()?;
    drop(copied);
    Ok(Steps {
        close: started.elapsed(),
        ..steps
    })
}

pub(crate) fn open(path: &Path) -> Result<Library> {
    // SAFETY: the files are the plugins of this workspace, whose initialisers are sound.
    Ok(unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }?)
}

/// An exported function. The caller knows its type.
pub(crate) fn symbol<T>(library: &Library, name: &[u8]) -> Result<Symbol<T>, libloading::Error> {
    // SAFETY: the caller names the type that the plugin declares for this symbol.
    unsafe { library.get(name) }
}
