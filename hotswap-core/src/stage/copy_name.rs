//! The name of a private copy, by which `/proc/PID/maps`, profilers and core dumps tell one build from another.

use std::{
    borrow::Cow,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::digest::Sha256;

/// The digits of an identifier in a name. A name is for people and profilers, and nothing relies on its being unique.
const ID_DIGITS: usize = 8;

/// The longest stem in a name. `memfd_create(2)` takes names of up to 249 bytes.
const STEM_BYTES_MAX: usize = 200;

/// The name of a copy of the file at `real`: its stem, then digits of its build id, as in `libplugin-3f9a01c2`.
///
/// A file without a build id gets digits of its hash if that is known, as in `libplugin-sha256-3f9a01c2`, and otherwise
/// a count of this process, as in `libplugin-copy-7`.
pub(super) fn copy_name(real: &Path, build_id: Option<&str>, sha256: Option<Sha256>) -> String {
    static COPIES: AtomicU64 = AtomicU64::new(0);

    let stem = stem(real);
    if let Some(id) = build_id.and_then(|id| id.get(..id.len().min(ID_DIGITS)))
        && !id.is_empty()
    {
        return format!("{stem}-{id}");
    }
    if let Some(sha256) = sha256 {
        return format!("{stem}-sha256-{:.ID_DIGITS$}", sha256.to_string());
    }
    // Relaxed: only the uniqueness of the count matters.
    let count = COPIES.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    format!("{stem}-copy-{count}")
}

/// The file's stem, with each character replaced that some reader of `/proc/PID/maps` may take for something else: a
/// blank ends a field there, a line feed is escaped, and `(deleted)` is what the kernel adds.
fn stem(real: &Path) -> String {
    let stem = real.file_stem().unwrap_or_default().to_string_lossy();
    let stem = match stem {
        Cow::Borrowed("") => Cow::Borrowed("plugin"),
        stem => stem,
    };
    let is_safe = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-', '+'].contains(&c);
    let safe = stem.chars().map(|c| if is_safe(c) { c } else { '_' });
    safe.take(STEM_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;

    const BUILD_ID: Option<&str> = Some("3f9a01c2d4e5f60718293a4b5c6d7e8f90a1b2c3");

    #[test]
    fn a_name_is_the_stem_and_the_build_id() {
        let name = |path: &str| copy_name(Path::new(path), BUILD_ID, None);
        assert_eq!(name("/opt/plugins/libplugin.so"), "libplugin-3f9a01c2");
        assert_eq!(name("/opt/plugins/plugin"), "plugin-3f9a01c2");
        assert_eq!(name("/lib/libm.so.6"), "libm.so-3f9a01c2");
        assert_eq!(name(""), "plugin-3f9a01c2");
    }

    #[test]
    fn without_a_build_id_it_is_the_hash_or_a_count() {
        let path = Path::new("libplugin.so");
        let sha256 = Some(Sha256::of(b"abc"));
        assert_eq!(copy_name(path, Some("3f"), sha256), "libplugin-3f");
        for none in [None, Some("")] {
            let name = copy_name(path, none, sha256);
            assert_eq!(name, "libplugin-sha256-ba7816bf");
        }
        let [one, two] = [(); 2].map(|()| copy_name(path, None, None));
        assert!(one.starts_with("libplugin-copy-"), "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn every_name_is_one_word_that_the_kernel_takes() {
        let name = |bytes: &[u8]| copy_name(Path::new(OsStr::from_bytes(bytes)), BUILD_ID, None);
        assert_eq!(
            name(b"my plug\nin (deleted).so"),
            "my_plug_in__deleted_-3f9a01c2"
        );
        assert_eq!(name("r\u{e8}gles.so".as_bytes()), "r_gles-3f9a01c2");
        assert_eq!(
            name(b"\xff\\\"\x1b[2J.so"),
            "____[2J-3f9a01c2".replace('[', "_")
        );
        let long = name(&[b'a'; 255]);
        assert_eq!(long.len(), STEM_BYTES_MAX + 1 + ID_DIGITS);
        let file = crate::system::memory_file::sealed(&long, b"", std::iter::empty()).unwrap();
        assert_eq!(crate::system::memory_file::name(&file).unwrap(), long);
    }
}
