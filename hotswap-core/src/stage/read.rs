//! Reading a file whole, although somebody may be writing to it.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::{self, Stat};

use super::{
    Refusal, memory,
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

/// Reads the whole file at `path`, again if it changed meanwhile. `look` must agree to the way.
pub(super) fn read_settled(
    path: &Path,
    bytes_max: u64,
    look: impl Fn(&Place<'_>) -> Result<(), Refusal>,
) -> Result<Content, Refusal> {
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
        let bytes = read_at_most(&file, size).map_err(failed)?;
        let after = fs::fstat(&file).map_err(|error| failed(error.into()))?;
        if bytes.len() as u64 == size && same_content(&before, &after) {
            return Ok(Content {
                bytes,
                real,
                followed_link,
            });
        }
        if attempt < READ_ATTEMPTS {
            thread::sleep(READ_PAUSE);
        }
    }
    let message = "the file keeps changing; it seems to be still being written";
    Err(Refusal::new(Stage::Open, message))
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

/// Size and time of the last change. Not the inode's own time, which a mere `chmod` or `ln` moves.
fn same_content(a: &Stat, b: &Stat) -> bool {
    (a.st_size, a.st_mtime, a.st_mtime_nsec) == (b.st_size, b.st_mtime, b.st_mtime_nsec)
}
