//! Which file is mapped at an address, and where the code of a file is, asked from a signal handler.

use std::{
    ffi::{OsStr, c_int},
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use crate::system::status::FileId;

/// What the system appends to the path of a file that is gone.
const DELETED: &[u8] = b" (deleted)";

/// A reader of `/proc/self/maps`, with what it has read last.
pub(crate) struct Maps {
    line: MapsLine,
    part: [u8; 256],
}

/// The file that is mapped somewhere.
pub(crate) struct MappedFile {
    path: [u8; 256],
    length: usize,
    /// The offset in the file.
    pub(crate) offset: usize,
}

/// Where a file is mapped that has code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MappedCode {
    /// The start of its first mapping.
    pub(crate) start: usize,
    /// From its first executable mapping to the end of the last.
    pub(crate) range: Range<usize>,
}

impl Maps {
    pub(super) const NEW: Self = Self {
        line: MapsLine::NEW,
        part: [0; 256],
    };

    /// The file whose code is mapped at an address. Reads `/proc/self/maps`.
    pub(crate) fn file_at(&mut self, address: usize) -> Option<&MappedFile> {
        let found = self.read(|line| (line.start..line.end).contains(&address).then_some(()));
        found.filter(|()| self.line.is_code)?;
        self.line.file.offset += address - self.line.start;
        Some(&self.line.file)
    }

    /// Where the code of a file is mapped. Reads `/proc/self/maps`.
    pub(crate) fn code_of(&mut self, file: FileId) -> Option<MappedCode> {
        // The mappings ascend.
        let (mut start, mut range) = (None, None);
        self.read(|line| -> Option<()> {
            if line.file_id() == file {
                start.get_or_insert(line.start);
                if line.is_code {
                    range.get_or_insert(line.start..line.end).end = line.end;
                }
            }
            None
        });
        Some(MappedCode {
            start: start?,
            range: range?,
        })
    }

    /// Calls `f` with each line, until it returns something.
    fn read<R>(&mut self, mut f: impl FnMut(&MapsLine) -> Option<R>) -> Option<R> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: a path that ends with a NUL.
        let maps = unsafe { libc::open(c"/proc/self/maps".as_ptr(), flags) };
        if maps < 0 {
            return None;
        }
        let found = self.read_from(maps, &mut f);
        // SAFETY: it was opened above, and nobody else has it.
        unsafe { libc::close(maps) };
        found
    }

    fn read_from<R>(
        &mut self,
        maps: c_int,
        f: &mut impl FnMut(&MapsLine) -> Option<R>,
    ) -> Option<R> {
        let Self { line, part } = self;
        line.clear();
        loop {
            // SAFETY: `part` has room for what is read.
            let read = unsafe { libc::read(maps, part.as_mut_ptr().cast(), part.len()) };
            let read = usize::try_from(read).ok().filter(|read| *read > 0)?;
            for byte in &part[..read] {
                if *byte != b'\n' {
                    line.push(*byte);
                    continue;
                }
                let found = f(line);
                if found.is_some() {
                    return found;
                }
                line.clear();
            }
        }
    }
}

impl MappedFile {
    /// Its path, as far as there is room for it. Empty if it is memory of no file.
    pub(crate) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.bytes()))
    }

    /// Whether it is the file at a path, as far as there is room for it, also if that was deleted or replaced.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let (path, bytes) = (path.as_os_str().as_bytes(), self.bytes());
        let is_cut = bytes.len() == self.path.len();
        match bytes.strip_prefix(path) {
            Some(rest) => {
                rest.is_empty() || DELETED.starts_with(rest) && (is_cut || rest == DELETED)
            }
            None => is_cut && path.starts_with(bytes),
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.path[..self.length]
    }
}

/// A line of `/proc/self/maps`, as far as it was read: `start-end permissions offset device inode path` (man 5
/// proc_pid_maps).
struct MapsLine {
    /// How many fields are complete.
    fields: usize,
    start: usize,
    end: usize,
    is_code: bool,
    /// The two numbers of the device.
    device: [u32; 2],
    inode: u64,
    /// The offset is that of the line.
    file: MappedFile,
}

impl MapsLine {
    const NEW: Self = Self {
        fields: 0,
        start: 0,
        end: 0,
        is_code: false,
        device: [0; 2],
        inode: 0,
        file: MappedFile::NEW,
    };

    /// As [`NEW`](Self::NEW), without a copy on the stack.
    fn clear(&mut self) {
        (self.fields, self.start, self.end, self.is_code) = (0, 0, 0, false);
        (self.device, self.inode) = ([0; 2], 0);
        (self.file.length, self.file.offset) = (0, 0);
    }

    fn file_id(&self) -> FileId {
        let [major, minor] = self.device;
        FileId::new(major, minor, self.inode)
    }

    fn push(&mut self, byte: u8) {
        let digit = |radix| (byte as char).to_digit(radix);
        match (self.fields, digit(16), digit(10)) {
            (6, ..) => self.file.push(byte),
            (0, Some(digit), _) => self.start = self.start << 4 | digit as usize,
            (1, Some(digit), _) => self.end = self.end << 4 | digit as usize,
            (3, Some(digit), _) => self.file.offset = self.file.offset << 4 | digit as usize,
            (4, Some(digit), _) => self.device[1] = self.device[1] << 4 | digit,
            (4, None, _) if byte == b':' => self.device = [self.device[1], 0],
            (5, _, Some(digit)) => self.inode = self.inode * 10 + u64::from(digit),
            (0, None, _) if byte == b'-' => self.fields = 1,
            (_, None, _) if byte == b' ' => self.fields += 1,
            (2, ..) => self.is_code |= byte == b'x',
            _ => {}
        }
    }
}

impl MappedFile {
    const NEW: Self = Self {
        path: [0; 256],
        length: 0,
        offset: 0,
    };

    fn push(&mut self, byte: u8) {
        let is_padding = self.length == 0 && byte == b' ';
        if !is_padding && self.length < self.path.len() {
            self.path[self.length] = byte;
            self.length += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    fn read(line: &str) -> (usize, usize, usize, String) {
        let mut parsed = MapsLine::NEW;
        line.bytes().for_each(|byte| parsed.push(byte));
        let path = parsed.file.path().to_str().unwrap().to_owned();
        (parsed.start, parsed.end, parsed.file.offset, path)
    }

    #[test]
    fn lines_of_maps_are_read() {
        assert_eq!(
            read(
                "7f0a1000-7f0a3000 r-xp 0001c000 fd:00 1234567                    /usr/lib/libc.so.6"
            ),
            (
                0x7f0a1000,
                0x7f0a3000,
                0x1c000,
                "/usr/lib/libc.so.6".to_owned()
            )
        );
        assert_eq!(
            read("7f0a1000-7f0a3000 r-xp 00000000 00:01 42   /memfd:a - b (deleted)"),
            (
                0x7f0a1000,
                0x7f0a3000,
                0,
                "/memfd:a - b (deleted)".to_owned()
            )
        );
        assert_eq!(
            read("1000-2000 rw-p 00000000 00:00 0 "),
            (0x1000, 0x2000, 0, String::new())
        );
    }

    #[test]
    fn the_code_of_a_file_is_found() {
        let mut maps = Maps::NEW;
        let program = FileId::at(&std::env::current_exe().unwrap()).unwrap();
        let code = maps.code_of(program).unwrap();
        let here = the_code_of_a_file_is_found as fn() as usize;
        assert!(code.range.contains(&here), "{code:?}");
        let file = maps.file_at(code.start);
        assert!(file.is_none_or(|it| it.offset == 0));
        let folder = FileId::at(Path::new("/")).unwrap();
        assert_eq!(maps.code_of(folder), None);
    }

    #[test]
    fn a_device_is_two_numbers() {
        let mut line = MapsLine::NEW;
        let text = b"1000-2000 r-xp 00000000 103:0a 1234567 /usr/lib/libc.so.6";
        text.iter().for_each(|byte| line.push(*byte));
        assert_eq!(line.file_id(), FileId::new(0x103, 0xa, 1_234_567));
    }

    #[test]
    fn the_file_at_an_address_is_found() {
        let here = the_file_at_an_address_is_found as fn() as usize;
        let mut maps = Maps::NEW;
        let file = maps.file_at(here).unwrap();
        let program = std::env::current_exe().unwrap();
        assert_eq!(file.path(), program);
        assert!(maps.file_at(8).is_none());
        let data = Box::new(1);
        assert!(maps.file_at(ptr::from_ref(&*data).addr()).is_none());
    }

    #[test]
    fn a_file_is_told_from_others() {
        let is_at = |mapped: &str, path: &str| {
            let mut file = MappedFile::NEW;
            mapped.bytes().for_each(|byte| file.push(byte));
            file.is_at(Path::new(path))
        };
        assert!(is_at("/srv/server", "/srv/server"));
        assert!(is_at("/srv/server (deleted)", "/srv/server"));
        assert!(!is_at("/srv/server", "/srv/server-2"));
        assert!(!is_at("/srv/server-2", "/srv/server"));
        assert!(!is_at("/srv/server (del", "/srv/server"));
        assert!(!is_at("", "/srv/server"));
        let long = format!("/{}", "x".repeat(300));
        assert!(is_at(&long, &long));
        assert!(!is_at(&long, "/x"));
        let nearly = format!("/{}", "x".repeat(249));
        assert!(is_at(&format!("{nearly} (deleted)"), &nearly));
    }
}
