//! What an agent keeps on disk: fetched plugins, and what it knows of them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{FleetError, FleetErrorKind, Result},
    status::Nack,
    store::Fetched,
};

/// How many refused builds are kept in mind.
const REFUSED_MAX: usize = 64;
/// How the name of a file begins for as long as it is being written.
const UNFINISHED: &str = ".new-";

/// The folder of an agent. Each has one of its own.
pub(crate) struct Folder {
    builds: Builds,
    state: State,
    /// Locked, so that another process leaves alone what this one is writing.
    _in_use: fs::File,
}

/// The builds in the folder. Their files are as large as plugins are: reading and writing them takes a while.
#[derive(Clone)]
pub(crate) struct Builds {
    folder: PathBuf,
}

/// What outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Builds with a lower serial number are refused.
    pub(crate) floor: u64,
    /// The build that the process begins with: the last one that has run for a while.
    pub(crate) good: Option<String>,
    /// The build that was last made live, or is just being made live, and has not run for a while yet.
    pub(crate) trying: Option<Tried>,
    /// What was refused, the latest last.
    pub(crate) refused: Vec<Refused>,
}

/// A build, in an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tried {
    pub(crate) attempt: u64,
    pub(crate) sha256: String,
}

/// A build that was refused in an attempt, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refused {
    #[serde(flatten)]
    pub(crate) tried: Tried,
    pub(crate) refusal: Nack,
}

impl Folder {
    /// Opens the folder, and makes it if it is not there. A build that the last process has not run for a while, and
    /// not gone back from either, counts as refused: that process has ended with it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |error| {
            let what = format!("cannot use the folder {}", path.display());
            FleetError::caused(FleetErrorKind::File, what, error)
        };
        fs::create_dir_all(path).map_err(failed)?;
        let path = fs::canonicalize(path).map_err(failed)?;
        let state = match fs::read(path.join("state.json")) {
            Ok(json) => serde_json::from_slice(&json).map_err(|error| {
                let what = format!("{} is damaged", path.join("state.json").display());
                FleetError::caused(FleetErrorKind::File, what, error)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(failed(error)),
        };
        let in_use = enter(&path).map_err(failed)?;
        let builds = Builds { folder: path };
        let mut folder = Self {
            builds,
            state,
            _in_use: in_use,
        };
        if let Some(tried) = folder.state.trying.clone() {
            let reason = "the process ended with it, before it had run for a while";
            folder.refuse(tried, Nack::new("process", reason))?;
        }
        Ok(folder)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Changes the state, on disk as well.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut state = self.state.clone();
        change(&mut state);
        if state == self.state {
            return Ok(());
        }
        self.builds.write_state(&state)?;
        self.state = state;
        Ok(())
    }

    /// Keeps in mind that a build was refused: also if that cannot be written, or it would be tried without end.
    pub(crate) fn refuse(&mut self, tried: Tried, refusal: Nack) -> Result<()> {
        let state = &mut self.state;
        state.trying.take_if(|it| it.sha256 == tried.sha256);
        state.refused.retain(|it| it.tried != tried);
        state.refused.push(Refused { tried, refusal });
        let excess = state.refused.len().saturating_sub(REFUSED_MAX);
        state.refused.drain(..excess);
        self.builds.write_state(state)
    }

    /// Why a build was refused in this attempt, if it was.
    pub(crate) fn refusal(&self, attempt: u64, sha256: &str) -> Option<&Nack> {
        let refused = &self.state.refused;
        let found = refused
            .iter()
            .find(|it| it.tried.attempt == attempt && it.tried.sha256 == sha256);
        found.map(|it| &it.refusal)
    }

    pub(crate) fn builds(&self) -> &Builds {
        &self.builds
    }
}

impl Builds {
    /// Where a build lies, or would.
    pub(crate) fn path_of(&self, sha256: &str) -> PathBuf {
        self.folder.join(format!("{sha256}.so"))
    }

    /// A build that was fetched before, with its signature.
    pub(crate) fn get(&self, sha256: &str) -> Option<Fetched> {
        let build = read(&self.path_of(sha256)).ok()?;
        (hotswap_core::Sha256::of(&build.bytes).to_string() == sha256).then_some(build)
    }

    /// Keeps a build, as a whole or not at all.
    pub(crate) fn put(&self, sha256: &str, fetched: &Fetched) -> Result<()> {
        let name = format!("{sha256}.so");
        self.write(&format!("{name}.minisig"), fetched.signature.as_bytes())?;
        self.write(&name, &fetched.bytes)
    }

    /// Removes the builds but these.
    pub(crate) fn keep_only(&self, kept: &[&str]) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some((sha256, end)) = name.to_str().and_then(|it| it.split_once('.')) else {
                continue;
            };
            let is_build = sha256.len() == 64 && end.starts_with("so");
            if is_build
                && !kept.contains(&sha256)
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(target: "hotswap_fleet", %error, "cannot remove an old plugin");
            }
        }
    }

    fn write_state(&self, state: &State) -> Result<()> {
        let json = serde_json::to_vec_pretty(state).expect("a state is JSON");
        self.write("state.json", &json)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let written = || -> io::Result<()> {
            let mut file = tempfile::Builder::new()
                .prefix(UNFINISHED)
                .tempfile_in(&self.folder)?;
            // Not through the file's own `Write`, whose errors name the unfinished file.
            io::Write::write_all(file.as_file_mut(), bytes)?;
            file.as_file().sync_all()?;
            file.persist(self.folder.join(name))?;
            fs::File::open(&self.folder)?.sync_all()
        };
        written().map_err(|error| {
            let what = format!("cannot write {}", self.folder.join(name).display());
            FleetError::caused(FleetErrorKind::File, what, error)
        })
    }
}

/// Locks the folder for as long as the file is open. If no other process has, removes what one that was killed has left
/// unfinished.
fn enter(path: &Path) -> io::Result<fs::File> {
    let folder = fs::File::open(path)?;
    // Whoever writes has the shared lock, so that nobody does under the exclusive one. Where the file system has no
    // locks, nothing is known of others, and nothing is removed.
    if folder.try_lock().is_ok() {
        remove_unfinished(path)?;
        folder.unlock()?;
    }
    if let Err(error) = folder.lock_shared() {
        tracing::warn!(target: "hotswap_fleet", %error, "cannot lock the folder");
    }
    Ok(folder)
}

fn remove_unfinished(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(target: "hotswap_fleet", %error, "cannot remove an unfinished file");
        }
    }
    Ok(())
}

/// A plugin's file, and the signature beside it.
pub(super) fn read(path: &Path) -> io::Result<Fetched> {
    Ok(Fetched {
        bytes: fs::read(path)?,
        signature: fs::read_to_string(path.with_added_extension("minisig"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(bytes: &[u8]) -> (String, Fetched) {
        let fetched = Fetched {
            bytes: bytes.to_vec(),
            signature: "signed".to_owned(),
        };
        (hotswap_core::Sha256::of(bytes).to_string(), fetched)
    }

    #[test]
    fn what_is_kept_is_there_again() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let (sha256, plugin) = fetched(b"so");
        let mut folder = Folder::open(&path).unwrap();
        folder.builds.put(&sha256, &plugin).unwrap();
        folder.change(|it| it.floor = 7).unwrap();
        let again = Folder::open(&path).unwrap();
        assert_eq!(again.state().floor, 7);
        assert_eq!(again.builds.get(&sha256).unwrap().signature, "signed");
    }

    #[test]
    fn a_file_with_other_bytes_is_not_taken() {
        let root = tempfile::tempdir().unwrap();
        let (sha256, plugin) = fetched(b"so");
        let folder = Folder::open(root.path()).unwrap();
        folder.builds.put(&sha256, &plugin).unwrap();
        fs::write(folder.builds.path_of(&sha256), b"os").unwrap();
        assert!(folder.builds.get(&sha256).is_none());
    }

    #[test]
    fn what_a_process_has_ended_with_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let tried = Tried {
            attempt: 3,
            sha256: "abc".to_owned(),
        };
        let mut folder = Folder::open(root.path()).unwrap();
        folder.change(|it| it.trying = Some(tried)).unwrap();
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!(folder.state().trying, None);
        assert_eq!(folder.refusal(3, "abc").unwrap().stage, "process");
        assert_eq!(folder.refusal(4, "abc"), None);
    }

    #[test]
    fn a_refusal_is_kept_in_mind_also_if_it_cannot_be_written() {
        let root = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(root.path()).unwrap();
        fs::create_dir(root.path().join("state.json")).unwrap();
        let tried = Tried {
            attempt: 3,
            sha256: "abc".to_owned(),
        };
        let refused = folder.refuse(tried, Nack::new("probe", "no"));
        assert_eq!(refused.unwrap_err().kind(), FleetErrorKind::File);
        assert_eq!(folder.refusal(3, "abc").unwrap().stage, "probe");
        // What has no effect as long as it is not written is not done.
        folder.change(|it| it.floor = 7).unwrap_err();
        assert_eq!(folder.state().floor, 0);
    }

    #[test]
    fn a_damaged_state_is_an_error_and_no_empty_one() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("state.json"), b"{").unwrap();
        let error = Folder::open(root.path()).err().unwrap();
        assert_eq!(error.kind(), FleetErrorKind::File);
    }

    #[test]
    fn what_is_unfinished_is_removed_unless_another_process_may_be_writing_it() {
        let root = tempfile::tempdir().unwrap();
        let unfinished = root.path().join(".new-a1b2c3");
        let writer = Folder::open(root.path()).unwrap();
        fs::write(&unfinished, b"half").unwrap();
        fs::write(root.path().join("note.txt"), b"mine").unwrap();
        // A second one leaves it alone, and so does a third one for the second.
        let second = Folder::open(root.path()).unwrap();
        assert!(unfinished.exists());
        drop(writer);
        let third = Folder::open(root.path()).unwrap();
        assert!(unfinished.exists());
        drop((second, third));
        Folder::open(root.path()).unwrap();
        assert!(!unfinished.exists());
        assert!(root.path().join("note.txt").exists());
    }

    #[test]
    fn old_builds_are_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let ((first, plugin), (second, other)) = (fetched(b"1"), fetched(b"2"));
        folder.builds.put(&first, &plugin).unwrap();
        folder.builds.put(&second, &other).unwrap();
        fs::write(root.path().join("note.txt"), b"mine").unwrap();
        folder.builds.keep_only(&[&second]);
        assert!(folder.builds.get(&first).is_none());
        assert!(folder.builds.get(&second).is_some());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3);
    }
}
