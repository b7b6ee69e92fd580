//! The state of all files that a build may read. Two equal states: nothing was saved in between.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs::{self, Metadata},
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::{packages::Places, system::FileId};

/// All files, each in its state, and the folders that they are in.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Sources {
    files: BTreeMap<PathBuf, FileState>,
    pub(crate) folders: BTreeSet<PathBuf>,
}

/// Differs when a file was written, touched or replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileState {
    id: FileId,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl FileState {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|it| Self::from(&it))
    }
}

impl From<&Metadata> for FileState {
    fn from(metadata: &Metadata) -> Self {
        Self {
            id: metadata.into(),
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

impl Sources {
    /// Looks at every file. What cannot be read is not there.
    pub(crate) fn look(places: &Places) -> Self {
        let mut sources = Self::default();
        let mut seen = HashSet::new();
        let mut open: Vec<_> = places.folders.iter().cloned().collect();
        while let Some(folder) = open.pop() {
            let Ok(metadata) = fs::metadata(&folder) else {
                continue;
            };
            // A link may lead to a folder that it lies in.
            if folder == places.target || !seen.insert(FileId::from(&metadata)) {
                continue;
            }
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                // Follows links: what counts is the file that a build reads.
                match fs::metadata(&path) {
                    _ if is_of_an_editor(&path) => {}
                    Ok(it) if it.is_file() => {
                        sources.files.insert(path, (&it).into());
                    }
                    Ok(it) if it.is_dir() && !is_elsewhere(&path, places) => open.push(path),
                    _ => {}
                }
            }
            sources.folders.insert(folder);
        }
        for path in &places.files {
            if let Some(state) = FileState::of(path) {
                sources.files.insert(path.clone(), state);
            }
            let folder = path.parent().filter(|it| it.is_dir());
            sources.folders.extend(folder.map(Path::to_owned));
        }
        sources
    }

    /// Whether they have the same manifests in the same state: then a workspace has the same packages.
    pub(crate) fn have_manifests_of(&self, other: &Self) -> bool {
        let manifests = |it: &Self| -> Vec<_> {
            let files = it.files.iter().map(|(path, state)| (path.clone(), *state));
            files.filter(|it| it.0.ends_with("Cargo.toml")).collect()
        };
        manifests(self) == manifests(other)
    }
}

/// Hidden files, and the copies that editors keep.
fn is_of_an_editor(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b".") || name.ends_with(b"~")
}

/// Whether a folder in a package's folder is not a part of that package: a package that the plugin does not depend on,
/// or what cargo has built (<https://bford.info/cachedir>).
fn is_elsewhere(folder: &Path, places: &Places) -> bool {
    let is_package = folder.join("Cargo.toml").exists();
    (is_package && !places.folders.contains(folder)) || folder.join("CACHEDIR.TAG").exists()
}
