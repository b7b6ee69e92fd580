//! The name of a private copy, by which `/proc/PID/maps`, profilers and core dumps tell one build from another.

use std::{
    borrow::Cow,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// The digits of an identifier in a name. A name is for people and profilers, and nothing relies on its being unique.
const ID_DIGITS: usize = 8;

/// The longest stem in a name. `memfd_create(2)` takes names of up to 249 bytes.
const STEM_BYTES_MAX: usize = 200;

/// The name of a copy of the file at `real`: its stem, then digits of its build id, as in `libplugin-3f9a01c2`.
///
/// A file without a build id in its first 4 KiB gets a count of this process, as in `libplugin-copy-7`.
pub(super) fn copy_name(real: &Path, build_id: Option<&str>) -> String {
    static COPIES: AtomicU64 = AtomicU64::new(0);

    let stem = stem(real);
    if let Some(id) = build_id.and_then(|id| id.get(..id.len().min(ID_DIGITS)))
        && !id.is_empty()
    {
        return format!("{stem}-{id}");
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
        let name = |path: &str| copy_name(Path::new(path), BUILD_ID);
        assert_eq!(name("/opt/plugins/libplugin.so"), "libplugin-3f9a01c2");
        assert_eq!(name("/opt/plugins/plugin"), "plugin-3f9a01c2");
        assert_eq!(name("/lib/libm.so.6"), "libm.so-3f9a01c2");
        assert_eq!(name(""), "plugin-3f9a01c2");
    }

    #[test]
    fn without_a_build_id_it_is_a_count() {
        let path = Path::new("libplugin.so");
        assert_eq!(copy_name(path, Some("3f")), "libplugin-3f");
        let [one, two] = [None, Some("")].map(|none| copy_name(path, none));
        assert!(one.starts_with("libplugin-copy-"), "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn every_name_is_one_word_that_the_kernel_takes() {
        let name = |bytes: &[u8]| copy_name(Path::new(OsStr::from_bytes(bytes)), BUILD_ID);
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
