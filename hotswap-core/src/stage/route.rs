//! The route from a path to its file at one moment, to be compared with the route at another.
//!
//! A look costs one walk. It opens nothing, and waits for nobody.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{integrity::signature_path, walk::follow};
use crate::{
    digest::Sha256,
    system::{
        lease::{self, Writers},
        limits,
        place::Handle,
        status::{ContentState, FileId, FileKind, Mode, Status},
    },
};

/// The route from a path to its file. If two routes are equal, so are the bytes, as far as [`ContentState`] shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The folders, the links and the file, in order.
    entries: Vec<RouteEntry>,
    /// The path of the file, or of the first thing that is missing.
    end: PathBuf,
    /// The path of the signature, and its state.
    signature: (PathBuf, Option<Seen>),
}

/// The file at the end of a route, not yet open for reading.
#[derive(Debug)]
pub(crate) struct RouteEnd(Handle);

#[derive(Clone, Debug, PartialEq, Eq)]
struct RouteEntry {
    real: PathBuf,
    seen: Seen,
}

/// The state of a place, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    file: FileId,
    kind: FileKind,
    mode: Mode,
    owner: (u32, u32),
    /// `None` for folders, which change with everything in them.
    content: Option<ContentState>,
}

impl Route {
    /// Looks at the route from `path` to its file now. A path that leads nowhere, or to no regular file, has a route
    /// too. `None`: too few descriptors or too little memory is left to look.
    pub(crate) fn look(path: &Path) -> Option<(Self, Option<RouteEnd>)> {
        let mut entries = Vec::new();
        let (end, file) = follow(path, |place| {
            entries.push(RouteEntry {
                real: place.real.to_owned(),
                seen: Seen::of(place.status),
            });
        });
        if file.as_ref().is_err_and(limits::is_exhaustion) {
            return None;
        }
        let signature = signature_path(&end);
        let seen = Status::at(&signature).ok().as_ref().map(Seen::of);
        let route = Self {
            entries,
            end,
            signature: (signature, seen),
        };
        Some((route, file.ok().map(RouteEnd)))
    }

    /// One that no path has.
    pub(crate) fn unknown() -> Self {
        Self {
            entries: Vec::new(),
            end: PathBuf::new(),
            signature: (PathBuf::new(), None),
        }
    }

    /// The folders on the route, each with its path and identity.
    pub(crate) fn folders(&self) -> impl Iterator<Item = (&Path, FileId)> {
        let folders = self
            .entries
            .iter()
            .filter(|entry| entry.seen.content.is_none());
        folders.map(|entry| (&*entry.real, entry.seen.file))
    }

    /// Every path at which a change may change the route.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Path> {
        let entries = self.entries.iter().map(|entry| &*entry.real);
        entries.chain([&*self.end, &*self.signature.0])
    }
}

impl RouteEnd {
    /// The digest of the file's bytes, or of `bytes_max` + 1 of them if there are more. `None`: somebody has the file
    /// open for writing, or mapped for it, as far as the system tells. Costs what [`Sha256::of`] costs; meanwhile
    /// nobody can begin to write.
    pub(crate) fn sha256(&self, bytes_max: u64) -> io::Result<Option<Sha256>> {
        let file = self.0.open_for_reading()?;
        let writers = lease::keep_out(&file);
        if let Writers::There = writers {
            return Ok(None);
        }
        let bytes = (&file).take(bytes_max.saturating_add(1));
        Sha256::of_all(bytes).map(Some)
    }
}

impl Seen {
    fn of(status: &Status) -> Self {
        let is_folder = status.kind == FileKind::Directory;
        Self {
            file: status.id,
            kind: status.kind,
            mode: status.mode,
            owner: (status.uid, status.gid),
            content: (!is_folder).then_some(status.content),
        }
    }
}
