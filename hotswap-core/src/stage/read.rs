//! Reading a file whole, although somebody may be writing to it.

use std::{
    fs::File,
    io::{self, Read as _, Seek},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use rustix::fs::{self, Stat};

use super::{
    Refusal,
    lease::{self, Writers},
    memory,
    walk::{self, Found, Place},
};
use crate::error::Stage;

/// What was in a file, all at one time.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// Where it was, with all links followed.
    pub(super) real: PathBuf,
    pub(super) followed_link: bool,
}

/// How often a file is read that changes meanwhile, and how long we give its writer in between. A
/// linker writes a plugin in well under a tenth of a second.
const READ_ATTEMPTS: u32 = 5;
const READ_PAUSE: Duration = Duration::from_millis(50);

/// A file that was changed less than so long ago may be in the middle of it.
const RECENT: Duration = Duration::from_secs(2);

/// How long a writer may need for the next part of what it writes.
const SECOND_LOOK: Duration = Duration::from_millis(20);

/// Reads the whole file at `path`, again if it changed meanwhile. `look` must agree to the way.
pub(super) fn read_settled(
    path: &Path,
    bytes_max: u64,
    look: impl Fn(&Place<'_>) -> Result<(), Refusal>,
) -> Result<Content, Refusal> {
    let mut why = "";
    for attempt in 1..=READ_ATTEMPTS {
        let Found {
            file,
            stat: before,
            real,
            followed_link,
        } = walk::open(path, &look)?;
        let size = u64::try_from(before.st_size).unwrap_or(u64::MAX);
        if size > bytes_max {
            let message = format!("{size} bytes are more than the {bytes_max} that are accepted");
            return Err(Refusal::new(Stage::Open, message));
        }
        memory::need(size)?;
        match read_unless_written(&file, &before).map_err(failed)? {
            Read::Whole(bytes) => {
                return Ok(Content {
                    bytes,
                    real,
                    followed_link,
                });
            }
            Read::Unsettled(what) => why = what,
        }
        if attempt < READ_ATTEMPTS {
            thread::sleep(READ_PAUSE);
        }
    }
    let message = format!("{why}; it seems to be still being written");
    Err(Refusal::new(Stage::Open, message))
}

/// What came of reading a file.
enum Read {
    /// All that is in it, at one time.
    Whole(Vec<u8>),
    /// It may be a mixture, because of this.
    Unsettled(&'static str),
}

/// Reads a file that was so before.
///
/// Without a lease to keep writers out, one that was changed a moment ago is read twice: that finds a writer at
/// work, but for one that pauses between the two.
fn read_unless_written(mut file: &File, before: &Stat) -> io::Result<Read> {
    let size = u64::try_from(before.st_size).unwrap_or(u64::MAX);
    let writers = lease::keep_out(file);
    let bytes = match writers {
        Writers::There => return Ok(Read::Unsettled("the file is open for writing")),
        Writers::KeptOut(_) | Writers::NotKnown => read_at_most(file, size)?,
    };
    let is_settled = match &writers {
        Writers::KeptOut(lease) => lease.is_whole(),
        _ if is_recent(before) => {
            thread::sleep(SECOND_LOOK);
            file.rewind()?;
            read_at_most(file, size)? == bytes
        }
        _ => true,
    };
    let is_same = bytes.len() as u64 == size && same_content(before, &fs::fstat(file)?);
    Ok(if is_settled && is_same {
        Read::Whole(bytes)
    } else {
        Read::Unsettled("the file keeps changing")
    })
}

fn failed(error: io::Error) -> Refusal {
    Refusal::new(Stage::Copy, error)
}

/// `size` bytes, one more if the file has grown, fewer if it has shrunk.
fn read_at_most(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let wanted = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
    // `read_to_end` tries one byte past the end; with room for it, the buffer is not grown for that.
    bytes.try_reserve_exact(wanted.saturating_add(64))?;
    file.take(size.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether it was changed a moment ago, or at a time that has not come yet.
fn is_recent(stat: &Stat) -> bool {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
    let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let age = changed.and_then(|changed| changed.elapsed().ok());
    age.is_none_or(|age| age < RECENT)
}

/// Size and time of the last change. Not the inode's own time, which a mere `chmod` or `ln` moves.
fn same_content(a: &Stat, b: &Stat) -> bool {
    (a.st_size, a.st_mtime, a.st_mtime_nsec) == (b.st_size, b.st_mtime, b.st_mtime_nsec)
}
