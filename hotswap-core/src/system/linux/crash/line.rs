//! A line of text, written from a signal handler.

use std::{
    ffi::{CStr, c_int},
    time::Duration,
};

use nix::errno::Errno;

/// The longest line that is written. A longer one is cut.
const LINE_BYTES_MAX: usize = 2048;

/// How long a report waits until standard error takes it.
const STDERR_MAX: Duration = Duration::from_secs(1);

/// A line that is written with one system call. What is too much is cut.
pub(crate) struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    length: usize,
}

impl Line {
    pub(super) const NEW: Self = Self {
        bytes: [0; LINE_BYTES_MAX],
        length: 0,
    };

    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends bytes, of which control characters become `?`.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - 1 - self.length;
        for byte in bytes.iter().take(room) {
            self.bytes[self.length] = if byte.is_ascii_control() { b'?' } else { *byte };
            self.length += 1;
        }
    }

    /// Writes it to standard error. What takes longer than [`STDERR_MAX`] is given up: a pipe that nobody reads must
    /// not keep the process from ending.
    pub(crate) fn write_to_stderr(&mut self) {
        let stderr = libc::STDERR_FILENO;
        if can_be_written(stderr) {
            let _ = write(stderr, self.ended());
        }
    }

    /// Appends it to a file, which is made if it is not there.
    pub(crate) fn append_to(&mut self, path: &CStr) -> Result<(), Errno> {
        let flags = libc::O_WRONLY
            | libc::O_CREAT
            | libc::O_APPEND
            | libc::O_CLOEXEC
            | libc::O_NOFOLLOW
            | libc::O_NONBLOCK;
        // SAFETY: a path that ends with a NUL.
        let file = Errno::result(unsafe { libc::open(path.as_ptr(), flags, 0o644) })?;
        let written = write(file, self.ended());
        // SAFETY: it was opened above, and nobody else has it.
        unsafe { libc::close(file) };
        written
    }

    /// Its bytes, with a line end.
    fn ended(&mut self) -> &[u8] {
        self.bytes[self.length] = b'\n';
        &self.bytes[..=self.length]
    }
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Waits until a file can be written to, for at most [`STDERR_MAX`]. `false`: it cannot, or nobody would read it.
fn can_be_written(file: c_int) -> bool {
    let mut asked = libc::pollfd {
        fd: file,
        events: libc::POLLOUT,
        revents: 0,
    };
    let timeout = STDERR_MAX.as_millis() as c_int;
    // SAFETY: one entry.
    let ready = unsafe { libc::poll(&raw mut asked, 1, timeout) };
    // After POLLERR, a write to a pipe would end the process by SIGPIPE.
    ready == 1 && asked.revents & libc::POLLOUT != 0 && asked.revents & libc::POLLERR == 0
}

/// Writes all of it.
fn write(file: c_int, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: the bytes are readable.
        let written = unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) };
        match Errno::result(written) {
            Ok(written @ 1..) => bytes = &bytes[written.cast_unsigned()..],
            Ok(_) => return Err(Errno::EIO),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_and_ended() {
        let mut line = Line::NEW;
        line.push(b"a\nb\x1b");
        assert_eq!(line.ended(), b"a?b?\n");
        line.push(b"c");
        assert_eq!(line.ended(), b"a?b?c\n");
        line.push(&[b'x'; 2 * LINE_BYTES_MAX]);
        assert_eq!(line.ended().len(), LINE_BYTES_MAX);
        assert!(line.ended().ends_with(b"x\n"));
    }
}
