//! How a path leads to its file at one moment, to be compared with how it does at another.
//!
//! All that such a look costs is a walk: nothing is opened, and nobody is waited for.

use std::{
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{self, FileType, Stat};

use super::{
    lease::{self, Writers},
    proof::signature_path,
    walk::{follow, open_for_reading},
};
use crate::digest::Sha256;

/// How a path leads to its file. Two that are equal may lead to other bytes only if somebody has written to the
/// file by way of a mapping, or within one tick of the file system's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The folders, the links and the file, in order.
    spots: Vec<Spot>,
    /// Where the file is, or the first thing that is missing.
    end: PathBuf,
    /// Where the signature is looked for, and how it is there.
    signature: (PathBuf, Option<Seen>),
}

/// What stands for the file at the end of a way. It is not open for reading yet.
#[derive(Debug)]
pub(crate) struct Reached(OwnedFd);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Spot {
    real: PathBuf,
    seen: Seen,
}

/// What is told apart of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    /// Not of folders, which change with everything in them.
    content: Option<Content>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    size: i64,
    modified: (i64, i64),
    /// Tells of a change whose author has put the other time back.
    changed: (i64, i64),
}

impl Way {
    /// How `path` leads to its file now. A path that leads nowhere, or to no regular file, has a way as well.
    pub(crate) fn look(path: &Path) -> (Self, Option<Reached>) {
        let mut spots = Vec::new();
        let (end, file) = follow(path, |place| {
            spots.push(Spot {
                real: place.real.to_owned(),
                seen: Seen::of(place.stat),
            });
        });
        let signature = signature_path(&end);
        let seen = fs::stat(&signature).ok().map(|stat| Seen::of(&stat));
        let way = Self {
            spots,
            end,
            signature: (signature, seen),
        };
        (way, file.map(Reached))
    }

    /// The folders that it leads through, each with what makes it the same as at another time.
    pub(crate) fn folders(&self) -> impl Iterator<Item = (&Path, (u64, u64))> {
        let folders = self.spots.iter().filter(|spot| spot.seen.content.is_none());
        folders.map(|spot| (&*spot.real, (spot.seen.device, spot.seen.inode)))
    }

    /// Everything that may make it another way when it changes, comes or goes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Path> {
        let spots = self.spots.iter().map(|spot| &*spot.real);
        spots.chain([&*self.end, &*self.signature.0])
    }
}

impl Reached {
    /// What the file's bytes are, or at most one more than `bytes_max` of them. None: somebody has the file open
    /// for writing, or mapped, as far as the system tells us. Costs what [`Sha256::of`] does, for which time
    /// nobody begins to write.
    pub(crate) fn sha256(&self, bytes_max: u64) -> io::Result<Option<Sha256>> {
        let file = open_for_reading(&self.0)?;
        let writers = lease::keep_out(&file);
        if let Writers::There = writers {
            return Ok(None);
        }
        let bytes = (&file).take(bytes_max.saturating_add(1));
        Sha256::of_all(bytes).map(Some)
    }
}

impl Seen {
    fn of(stat: &Stat) -> Self {
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            content: (!is_folder).then_some(Content {
                size: stat.st_size,
                modified: (stat.st_mtime, stat.st_mtime_nsec),
                changed: (stat.st_ctime, stat.st_ctime_nsec),
            }),
        }
    }
}
