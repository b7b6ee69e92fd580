//! A path as somebody gave it, and the same from `/`.

use std::{
    env, io,
    ops::Deref,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, ErrorKind, Result},
    system::linker::CANNOT_UNLOAD,
};

/// A path, made absolute when it was given: a later `chdir` does not change what it means.
///
/// It dereferences to the path as it was given, which is what people are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GivenPath {
    given: PathBuf,
    absolute: PathBuf,
}

impl GivenPath {
    /// # Errors
    /// Nothing can be loaded on this platform. Or the path is empty, contains a NUL, or is a bare name, for which the
    /// dynamic linker would look elsewhere; or it is relative, and the current folder has no path.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let refused = |kind| Error::new(path, kind);
        if let Some(why) = CANNOT_UNLOAD {
            return Err(refused(ErrorKind::UnsupportedPlatform { why }));
        }
        check_spelling(path).map_err(|problem| refused(ErrorKind::InvalidPath { problem }))?;
        let absolute = absolute(path).map_err(|error| refused(ErrorKind::cannot_open(error)))?;
        Ok(Self {
            given: path.to_owned(),
            absolute,
        })
    }

    /// What is shown in the place of a path.
    pub(crate) const BUILT_IN: &str = "(built in)";

    /// There is none.
    pub(crate) fn built_in() -> Self {
        Self {
            given: Self::BUILT_IN.into(),
            absolute: PathBuf::new(),
        }
    }

    pub(crate) fn absolute(&self) -> &Path {
        &self.absolute
    }
}

impl Deref for GivenPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.given
    }
}

/// The path from `/`. Its names stay as they are: what `..` means is only known when links are followed.
///
/// # Errors
/// The path is empty, or the current folder has no path.
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let current = env::current_dir();
    let current = current.map_err(|error| {
        let message = format!("it is relative to the current folder, which has no path: {error}");
        io::Error::new(error.kind(), message)
    })?;
    // As the system spells the path of a folder that this process cannot reach.
    if !current.is_absolute() {
        let message = "it is relative to the current folder, which lies outside of the root folder";
        return Err(io::Error::other(message));
    }
    Ok(current.join(path))
}

/// What is asked of a path before the system is.
fn check_spelling(path: &Path) -> Result<(), &'static str> {
    let name = path.as_os_str().as_encoded_bytes();
    if name.is_empty() {
        return Err("the path is empty");
    }
    if name.contains(&0) {
        return Err("the path contains a NUL byte");
    }
    if !name.contains(&b'/') {
        return Err("a bare name; write `./` before it for a file in the current folder");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_begins_in_the_current_folder_and_keeps_its_names() {
        let current = env::current_dir().unwrap();
        for path in ["./a.so", "a/../b.so", "../a.so/", "a/."] {
            let given = GivenPath::new(Path::new(path)).unwrap();
            assert_eq!(given.as_os_str(), path);
            let expected = format!("{}/{path}", current.display());
            assert_eq!(given.absolute().as_os_str(), &*expected);
        }
        let path = Path::new("/a/../b.so/");
        let given = GivenPath::new(path).unwrap();
        assert_eq!(given.absolute().as_os_str(), path.as_os_str());
    }
}
