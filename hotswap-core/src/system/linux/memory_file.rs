//! Memory files (`memfd_create(2)`) that nobody can change any more, and that are gone with the process.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    thread,
    time::Duration,
};

use rustix::{
    fs::{self, MemfdFlags, SealFlags},
    io::Errno,
};

use super::{
    limits::{self, Limit},
    proc,
};

const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// How often sealing is tried while the kernel uses a page of the file, and the pause in between.
const SEAL_ATTEMPTS: u32 = 10;
const SEAL_PAUSE: Duration = Duration::from_millis(5);

/// Makes a memory file of this name with these bytes, some of which are replaced (each by its offset), and seals it.
pub(crate) fn sealed(
    name: &str,
    bytes: &[u8],
    replaced: impl Iterator<Item = (u64, u8)>,
) -> io::Result<File> {
    let mut file = create(name, bytes.len() as u64)?;
    file.write_all(bytes)?;
    for (offset, byte) in replaced {
        file.write_all_at(&[byte], offset)?;
    }
    seal(file)
}

/// Makes a memory file of this name with the next `bytes` bytes of a file, or fewer if that ends, and seals it. The
/// kernel copies them (`sendfile(2)`), which takes three quarters of the time of reading and writing them.
pub(crate) fn sealed_copy(name: &str, of: &File, bytes: u64) -> io::Result<File> {
    let file = create(name, bytes)?;
    copy(of, &file, bytes)?;
    seal(file)
}

fn copy(of: &File, mut to: &File, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        match fs::sendfile(to, of, None, most) {
            Ok(0) => break,
            Ok(copied) => left -= copied as u64,
            Err(Errno::INTR) => {}
            // Not from this file system, or not in this sandbox. Both files are where the last copying has ended.
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP) => {
                let mut rest = Vec::new();
                of.take(left).read_to_end(&mut rest)?;
                return to.write_all(&rest);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes an empty memory file, for this many bytes.
fn create(name: &str, bytes: u64) -> io::Result<File> {
    // A write past this limit would end the process.
    if matches!(limits::file_bytes(), Limit::Of(limit) if limit < bytes) {
        return Err(io::Error::other(
            "larger than the limit on file sizes (ulimit -f)",
        ));
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = fs::memfd_create(name, flags).map_err(|error| match error {
        // From a sandbox, which does not say what it denies.
        Errno::PERM | Errno::NOSYS => {
            let error = io::Error::from(error);
            let message =
                format!("the system does not let it make memory files (memfd_create): {error}");
            io::Error::new(error.kind(), message)
        }
        error => error.into(),
    })?;
    Ok(file.into())
}

fn seal(file: File) -> io::Result<File> {
    while_busy(|| fs::fcntl_add_seals(&file, SEALS))?;
    Ok(file)
}

/// The name that a memory file was made with.
///
/// # Errors
/// It is no memory file, its name is no text, or `/proc` does not say.
pub(crate) fn name(file: &File) -> io::Result<String> {
    let link = std::fs::read_link(proc::path(file))?;
    let name = link.to_str().and_then(name_in);
    let not_one = || io::Error::other(format!("not a memory file: {}", link.display()));
    name.map(str::to_owned).ok_or_else(not_one)
}

/// The name of a memory file in what `/proc` says that a descriptor leads to. `None`: it leads to something else.
pub(super) fn name_in(link: &str) -> Option<&str> {
    link.strip_prefix("/memfd:")?.strip_suffix(" (deleted)")
}

/// Whether nobody can write to the file any more, or change its size.
///
/// # Errors
/// It is no memory file, or the descriptor is closed.
pub(crate) fn is_sealed(file: &File) -> io::Result<bool> {
    Ok(fs::fcntl_get_seals(file)?.contains(SEALS))
}

/// Reads at this offset. Leaves the offset alone that all who have the file open share.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::pread(file, buffer, offset)?)
}

/// Tries again while the kernel says that it is busy, up to [`SEAL_ATTEMPTS`] times.
///
/// The kernel does not seal a memory file against writing while anybody else uses one of its pages. That may be the
/// kernel itself, which moves pages; it waits 150 ms for that, and then answers EBUSY (`memfd_wait_for_pins` in
/// `mm/memfd.c`). Seen once in some 100,000 files on a machine under load (Linux 6.18, 2026-11).
fn while_busy(mut attempt: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    for _ in 1..SEAL_ATTEMPTS {
        match attempt() {
            Err(Errno::BUSY) => thread::sleep(SEAL_PAUSE),
            other => return other,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_as_many_bytes_as_asked_for_if_the_file_has() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&path, "some bytes").unwrap();
        for (bytes, expected) in [(4, "some"), (10, "some bytes"), (11, "some bytes")] {
            let copy = sealed_copy("a-copy", &File::open(&path).unwrap(), bytes).unwrap();
            assert!(is_sealed(&copy).unwrap());
            assert_eq!(name(&copy).unwrap(), "a-copy");
            let content = std::fs::read_to_string(proc::path(&copy)).unwrap();
            assert_eq!(content, expected);
        }
    }

    #[test]
    fn sealing_is_retried_while_the_kernel_is_busy() {
        let answers = |busy: u32| {
            let mut attempts = 0;
            let result = while_busy(|| {
                attempts += 1;
                if attempts <= busy {
                    Err(Errno::BUSY)
                } else {
                    Ok(())
                }
            });
            (result, attempts)
        };
        assert_eq!(answers(0), (Ok(()), 1));
        assert_eq!(answers(SEAL_ATTEMPTS - 1), (Ok(()), SEAL_ATTEMPTS));
        assert_eq!(answers(SEAL_ATTEMPTS), (Err(Errno::BUSY), SEAL_ATTEMPTS));
        assert_eq!(while_busy(|| Err(Errno::PERM)), Err(Errno::PERM));
    }
}
