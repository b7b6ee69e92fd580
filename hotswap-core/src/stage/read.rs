//! Reading a whole file, although somebody may be writing to it.

use std::{
    fs::File,
    io::{self, Read as _, Seek},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use memmap2::Mmap;
use object::pod;

use super::{
    copy_name::copy_name,
    inspection,
    sealed::Sealed,
    walk::{self, OpenedFile, Place},
};
use crate::{
    error::ErrorKind,
    memory,
    system::{
        lease::{self, Writers},
        status::Status,
    },
};

/// The content of a file at one moment: its bytes, or a copy of it.
pub(super) struct Content<T = Vec<u8>> {
    pub(super) bytes: T,
    /// The file's path, with all links followed.
    pub(super) real: PathBuf,
    pub(super) followed_link: bool,
    /// The file's status before it was read.
    pub(super) status: Status,
}

/// How often a file that keeps changing is read, and the pause in between. A linker writes a plugin in well under a
/// tenth of a second.
const READ_ATTEMPTS: u32 = 5;
const READ_PAUSE: Duration = Duration::from_millis(50);

/// A file that was changed more recently than this may still be being written.
const RECENT: Duration = Duration::from_secs(2);

/// In so many bytes is the build id: linkers put it behind the program headers.
const BEGINNING_BYTES: u64 = 4096;

/// A larger file is copied only if its beginning is that of a library. It may be a log or a disk image whose path was
/// given by mistake, and larger than the memory that the process may use.
const LARGE_BYTES: u64 = 1 << 20;

/// The time that a writer may need before it writes the next part.
const SECOND_LOOK: Duration = Duration::from_millis(20);

/// A copy, and its bytes.
pub(super) struct Copied {
    pub(super) copy: Sealed,
    pub(super) bytes: Mmap,
}

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the whole file at `path`, again if it changed meanwhile. `look` must accept each place on the route to it.
pub(super) fn read_settled(
    path: &Path,
    bytes_max: u64,
    look: impl Fn(&Place<'_>) -> Result<(), ErrorKind>,
) -> Result<Content, ErrorKind> {
    settled(path, bytes_max, look, |file, _, size| {
        memory::need(size)?;
        read_at_most(file, size).map_err(ErrorKind::cannot_copy)
    })
}

/// Makes a sealed copy of the whole file at `path`, like [`read_settled`].
pub(super) fn copy_settled(
    path: &Path,
    bytes_max: u64,
    look: impl Fn(&Place<'_>) -> Result<(), ErrorKind>,
) -> Result<Content<Copied>, ErrorKind> {
    settled(path, bytes_max, look, copy)
}

/// `take` reads or copies a file, whose real path and size it gets.
fn settled<T: AsRef<[u8]>>(
    path: &Path,
    bytes_max: u64,
    look: impl Fn(&Place<'_>) -> Result<(), ErrorKind>,
    take: impl Fn(&File, &Path, u64) -> Result<T, ErrorKind>,
) -> Result<Content<T>, ErrorKind> {
    let mut why = "";
    for attempt in 1..=READ_ATTEMPTS {
        let OpenedFile {
            file,
            status: before,
            real,
            followed_link,
        } = walk::open(path, &look)?;
        let size = before.content.bytes();
        if size > bytes_max {
            return Err(ErrorKind::TooLarge {
                bytes: size,
                bytes_max,
            });
        }
        let writers = lease::keep_out(&file);
        let may_be_written = matches!(writers, Writers::NotKnown) && is_recent(&before);
        let take = |file: &File, size| take(file, &real, size);
        let read = read_unless_written(&file, &before, writers, take);
        match read {
            // Whoever writes it may begin elsewhere than at its beginning.
            Err(_) if may_be_written && attempt < READ_ATTEMPTS => {}
            Err(refusal) => return Err(refusal),
            Ok(Read::Whole(bytes)) => {
                return Ok(Content {
                    bytes,
                    real,
                    followed_link,
                    status: before,
                });
            }
            Ok(Read::Unsettled(what)) => why = what,
        }
        if attempt < READ_ATTEMPTS {
            thread::sleep(READ_PAUSE);
        }
    }
    Err(ErrorKind::KeepsChanging { what: why })
}

/// The result of reading a file.
enum Read<T> {
    /// All of its content, at one moment.
    Whole(T),
    /// The content may be a mixture of old and new, for this reason.
    Unsettled(&'static str),
}

/// Reads a file whose status was `before`.
///
/// Without a lease that keeps writers out, this reads a recently changed file twice. That finds a writer at work,
/// unless the writer pauses between the two reads.
fn read_unless_written<T: AsRef<[u8]>>(
    mut file: &File,
    before: &Status,
    writers: Writers<'_>,
    take: impl FnOnce(&File, u64) -> Result<T, ErrorKind>,
) -> Result<Read<T>, ErrorKind> {
    let fail = ErrorKind::cannot_copy;
    let size = before.content.bytes();
    let bytes = match writers {
        Writers::There => {
            return Ok(Read::Unsettled(
                "the file is open for writing; it seems to be still being written",
            ));
        }
        Writers::KeptOut(_) | Writers::NotKnown => take(file, size)?,
    };
    let is_settled = match &writers {
        Writers::KeptOut(lease) => lease.is_whole(),
        _ if is_recent(before) => {
            thread::sleep(SECOND_LOOK);
            file.rewind().map_err(fail)?;
            read_at_most(file, size).map_err(fail)? == bytes.as_ref()
        }
        _ => true,
    };
    let after = Status::of(file).map_err(fail)?;
    let is_same =
        bytes.as_ref().len() as u64 == size && after.content.is_as_written(&before.content);
    Ok(if is_settled && is_same {
        Read::Whole(bytes)
    } else {
        Read::Unsettled("the file keeps changing; it seems to be still being written")
    })
}

/// Reads `size` bytes: one more if the file has grown, fewer if it has shrunk.
fn read_at_most(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let wanted = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
    // `read_to_end` tries one byte past the end; with room for it, the buffer is not grown for that.
    bytes.try_reserve_exact(wanted.saturating_add(64))?;
    file.take(size.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Copies `size` bytes, or fewer if the file has shrunk. Refuses a large file that cannot be a library.
fn copy(mut file: &File, real: &Path, size: u64) -> Result<Copied, ErrorKind> {
    let fail = ErrorKind::cannot_copy;
    let mut read = Vec::new();
    file.take(BEGINNING_BYTES)
        .read_to_end(&mut read)
        .map_err(fail)?;
    file.rewind().map_err(fail)?;
    // Aligned like the structures in it.
    let mut words = [0_u64; BEGINNING_BYTES as usize / 8];
    let beginning = &mut pod::bytes_of_slice_mut(&mut words)[..read.len()];
    beginning.copy_from_slice(&read);
    if size > LARGE_BYTES {
        inspection::check_beginning(beginning)?;
    }
    memory::need(size)?;
    let build_id = hotswap_elf::build_id(beginning);
    let copy = Sealed::of_file(&copy_name(real, build_id.as_deref()), file, size).map_err(fail)?;
    let bytes = copy.map().map_err(fail)?;
    Ok(Copied { copy, bytes })
}

/// Whether it was changed a moment ago, or at a time in the future.
fn is_recent(status: &Status) -> bool {
    status.content.age().is_none_or(|age| age < RECENT)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::FileExt,
        sync::atomic::{AtomicBool, Ordering},
        time::SystemTime,
    };

    use super::*;

    fn read(file: &File, writers: Writers<'_>) -> Read<Vec<u8>> {
        let before = Status::of(file).unwrap();
        let take = |file: &File, size| read_at_most(file, size).map_err(ErrorKind::cannot_copy);
        read_unless_written(file, &before, writers, take).unwrap()
    }

    #[test]
    fn an_open_writer_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reader = File::open(file.path()).unwrap();
        assert!(matches!(lease::keep_out(&reader), Writers::There));
        // Closes the descriptor that is open for writing, and keeps the file.
        let path = file.into_temp_path();
        let Writers::KeptOut(lease) = lease::keep_out(&reader) else {
            panic!("no lease is to be had on {}", path.display())
        };
        assert!(lease.is_whole());
        drop(lease);
        assert!(
            File::options().write(true).open(&path).is_ok(),
            "nobody has to wait any more"
        );
    }

    #[test]
    fn without_a_lease_a_writer_that_keeps_size_and_time_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = file.as_file();
        let at = SystemTime::now();
        writer.write_all_at(b"old", 0).unwrap();
        writer.set_modified(at).unwrap();
        let reader = file.reopen().unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for text in [b"new", b"old"].iter().cycle() {
                    writer.write_all_at(&text[..], 0).unwrap();
                    writer.set_modified(at).unwrap();
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            loop {
                (&reader).rewind().unwrap();
                if matches!(read(&reader, Writers::NotKnown), Read::Unsettled(_)) {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        (&reader).rewind().unwrap();
        assert!(
            matches!(read(&reader, Writers::NotKnown), Read::Whole(_)),
            "it is at rest"
        );
    }

    #[test]
    fn only_a_change_long_ago_is_not_recent() {
        let file = tempfile::tempfile().unwrap();
        let is_recent_at = |age: i64| {
            let seconds = Duration::from_secs(age.unsigned_abs());
            let now = SystemTime::now();
            let then = if age < 0 {
                now + seconds
            } else {
                now - seconds
            };
            file.set_modified(then).unwrap();
            is_recent(&Status::of(&file).unwrap())
        };
        assert!(!is_recent_at(60));
        assert!(is_recent_at(0));
        assert!(is_recent_at(-60), "a clock is wrong");
    }
}
