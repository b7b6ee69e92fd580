//! Whose code has crashed: one line on standard error when the process dies of a signal, and a memory of it for the
//! next start.
//!
//! [`install_handler`] is called once, early in `main`. When the process then crashes (SIGSEGV, SIGBUS, SIGILL, SIGFPE,
//! SIGABRT or SIGTRAP), one line says which generation's code it was, or the host's:
//!
//! ```text
//! hotswap: SIGSEGV (address 0x0) on thread 4711 "worker-3": in generation 2 of librules.so, at offset 0x1a2b \
//! (rules 0.2.0, build id 3f9a01c2…, sha256 ba7816bf…)
//! ```
//!
//! The offset is an address in the file, as `addr2line -e librules.so 0x1a2b` takes it. If what has failed is a library
//! or `abort`, the line says *probably*, and why: the thread is inside a call of a generation, it is loading a plugin,
//! or code of a plugin is nearest on its stack.
//!
//! Then the handler that was there before is called, or the process ends as it would have, with a core dump if those
//! are on. SIGABRT from another process, such as a supervisor's watchdog, is no crash and is passed on alone. If
//! standard error is a pipe that nobody reads, the line is given up after a second.
//!
//! # The next start
//!
//! With [`Policy::avoid_crashed`](crate::Policy::avoid_crashed), a folder, the line is also appended to a file there
//! that is named after the plugin's SHA-256, and a candidate for which there is such a file is refused. (If it cannot
//! be written, the line on standard error ends with `not recorded` and the reason.) So a host that starts again after a
//! crash does not load the same bytes again:
//!
//! ```no_run
//! use hotswap_core::{Policy, Trust, crash};
//!
//! crash::install_handler()?;
//! let policy = Policy {
//!     avoid_crashed: Some("/var/lib/server/crashed".into()),
//!     ..Policy::default()
//! };
//! # let _ = policy;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Limits
//!
//! The handler runs on the thread that has crashed, and needs a little of its stack. A stack overflow is reported on
//! threads that have an alternate stack for signals: those that Rust's standard library has started in a Rust program,
//! the main thread, the thread that calls [`install_handler`], and those that a plugin with `unloadable!` has started
//! afterwards. A handler that somebody installs later comes first, and decides whether this one is called. The handler
//! that was there before runs on the same stack as this one: on the alternate one, even without `SA_ONSTACK`. In the
//! child process of a [`Trial`](crate::Trial) there is no handler: the trial reports the crash.
//!
//! Whether a handler mends what has failed cannot be known before it is called. So what a handler mends that was there
//! before is reported and recorded too. Libraries that use these signals in normal operation (wasmtime, Java and Go
//! runtimes) have to install their handlers after this one.

#[cfg(feature = "backtrace")]
use std::sync::Weak;
use std::{
    ffi::CString,
    fmt::Write,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use hotswap_cell::{ListReader, Listed, SignalSafeList, ValueId, values_of_thread};

use crate::{
    digest::Sha256,
    error::{ErrorKind, SystemError},
    escape::{Escaped, printable},
    system::{
        crash::{AlternateStack, Crash, Line, MappedCode, Maps, report_crashes},
        mapping::Mapping,
        proc::is_of_descriptor,
        status::{FileId, FileKind, Status},
    },
};

/// How much of the end of a record a refusal shows.
const RECORD_BYTES_MAX: u64 = 4096;

/// All images that are mapped, or are being opened.
static IMAGES: SignalSafeList<ImageRecord> = SignalSafeList::new();

/// The path of this program, to tell its code from a library's.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// What a report says of an image. It is made before the image is opened, and completed step by step.
#[derive(Debug)]
pub(crate) struct ImageRecord {
    /// The file, as it was given.
    given: PathBuf,
    name: String,
    /// The number of the thread that opens it.
    opener: u32,
    /// The copy that is opened.
    copy: FileId,
    /// The file to which a crash is appended.
    record: Option<CString>,
    /// Where its code is.
    code: OnceLock<Mapping>,
    /// Name and version of its package.
    package: OnceLock<String>,
    /// Build id and hash, as far as they are known.
    ids: String,
    published: OnceLock<Published>,
    #[cfg(feature = "backtrace")]
    file: OnceLock<Weak<dyn ImageFile>>,
}

/// A file with the bytes of an image.
#[cfg(feature = "backtrace")]
pub(crate) trait ImageFile: std::fmt::Debug + Send + Sync {
    /// A path that leads to it, while this value exists.
    fn path(&self) -> io::Result<PathBuf>;
}

/// Which generation the image is.
#[derive(Debug)]
struct Published {
    generation: u64,
    /// What the slot of a thread names that is inside a call of it.
    calls: ValueId,
    polls: Option<ValueId>,
}

/// Why a crash is an image's.
enum Because {
    /// The instruction is its code, at this offset.
    Instruction(usize),
    /// The thread is inside of a call of it.
    Call,
    /// The thread opens it.
    Opens,
    /// Its code, at this offset, is nearest on the stack.
    Stack(usize),
}

/// An image that a thread opens: it does nothing else until the image is published.
struct Opened<'a> {
    image: &'a ImageRecord,
    /// If the image is mapped and does not know where: its initialisers run then.
    code: Option<MappedCode>,
}

impl<'a> Opened<'a> {
    fn by_thread(
        thread: u32,
        images: &'a ListReader<ImageRecord>,
        maps: &mut Maps,
    ) -> Option<Self> {
        let mut images = images.iter();
        let image = images.find(|it| it.opener == thread && it.published.get().is_none())?;
        let code = match image.code.get() {
            None => maps.code_of(image.copy),
            Some(_) => None,
        };
        Some(Self { image, code })
    }

    /// The offset in the file of what is at an address, if that is its code. Linkers let the addresses in a library
    /// begin at 0.
    fn offset(&self, address: usize) -> Option<usize> {
        let Some(code) = &self.code else {
            return self.image.offset(address);
        };
        let is_code = code.range.contains(&address);
        is_code.then(|| address - code.start)
    }
}

/// Reports crashes of this process from now on. See the [module](self) for what is reported, and on which threads.
///
/// Call it early in `main`, after [`Trial::at_top_of_main`](crate::Trial::at_top_of_main), after other handlers of
/// crashes (what is there when this is called is called after the report), and before libraries that mend what has
/// failed.
/// Costs calls nothing, and each thread of a plugin a mapping of 64 KiB, of which the kernel provides what is used.
///
/// # Errors
///
/// It was called before, or the system refuses a handler. On systems other than Linux with glibc crashes are not
/// reported yet ([`io::ErrorKind::Unsupported`]).
pub fn install_handler() -> io::Result<()> {
    if let Ok(program) = std::env::current_exe() {
        let _ = PROGRAM.set(program);
    }
    // So that the handler finds the registry of threads made.
    let _ = values_of_thread(0).next();
    report_crashes(report)?;
    // It is the thread's for good.
    std::mem::forget(AlternateStack::install());
    Ok(())
}

impl ImageRecord {
    /// Lists an image that the calling thread is about to open. It is dropped when the image is gone.
    pub(crate) fn list(
        given: &Path,
        opener: u32,
        copy: FileId,
        folder: Option<&Path>,
        build_id: Option<&str>,
        sha256: Option<Sha256>,
    ) -> Listed<Self> {
        let name = given.file_name().unwrap_or(given.as_os_str());
        let record = folder
            .zip(sha256)
            .map(|(folder, sha256)| path_of(folder, sha256));
        let build_id = build_id.map(|it| format!("build id {it}"));
        let sha256 = sha256.map(|it| format!("sha256 {it}"));
        IMAGES.insert(Self {
            given: given.to_owned(),
            name: Escaped(name).to_string(),
            opener,
            copy,
            // A path cannot contain a NUL.
            record: record.and_then(|path| CString::new(path.as_os_str().as_encoded_bytes()).ok()),
            code: OnceLock::new(),
            package: OnceLock::new(),
            ids: [build_id, sha256]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", "),
            published: OnceLock::new(),
            #[cfg(feature = "backtrace")]
            file: OnceLock::new(),
        })
    }

    /// It is mapped, and these are its executable segments.
    pub(crate) fn mapped(&self, code: Mapping) {
        let _ = self.code.set(code);
    }

    /// Its package, with its version.
    pub(crate) fn is_of(&self, (name, version): (String, String)) {
        let _ = self
            .package
            .set(Escaped(format!("{name} {version}")).to_string());
    }

    /// It is about to be published. Calls of this generation are those on these values.
    pub(crate) fn published(&self, generation: u64, calls: ValueId, polls: Option<ValueId>) {
        let _ = self.published.set(Published {
            generation,
            calls,
            polls,
        });
    }

    /// Its bytes are those of this file, as long as the image is mapped.
    #[cfg(feature = "backtrace")]
    pub(crate) fn is_in(&self, file: Weak<dyn ImageFile>) {
        let _ = self.file.set(file);
    }

    /// The file with its bytes.
    #[cfg(feature = "backtrace")]
    pub(crate) fn file(&self) -> Option<Weak<dyn ImageFile>> {
        self.file.get().cloned()
    }

    /// What it is called, and what is known of its build, in brackets.
    #[cfg(feature = "backtrace")]
    pub(crate) fn describe(&self) -> (String, String) {
        let (mut name, mut details) = (String::new(), String::new());
        // A string takes all that is written to it.
        let _ = self.write_to(&mut name);
        let _ = self.write_details_to(&mut details);
        (name, details)
    }

    /// The offset in the file of what is at an address, if that is its code.
    pub(crate) fn offset(&self, address: usize) -> Option<usize> {
        let code = self.code.get()?;
        let is_code = code.has(address, 1);
        is_code.then(|| address.wrapping_sub(code.bias))
    }

    fn is_called(&self, value: ValueId) -> bool {
        let published = self.published.get();
        published.is_some_and(|it| it.calls == value || it.polls == Some(value))
    }

    fn write_to(&self, line: &mut impl Write) -> std::fmt::Result {
        match self.published.get() {
            Some(it) => write!(line, "generation {} of {}", it.generation, self.name),
            None => write!(line, "{}", self.name),
        }
    }

    fn write_details_to(&self, line: &mut impl Write) -> std::fmt::Result {
        match (self.package.get(), &*self.ids) {
            (None, "") => Ok(()),
            (Some(package), "") => write!(line, " ({package})"),
            (None, ids) => write!(line, " ({ids})"),
            (Some(package), ids) => write!(line, " ({package}, {ids})"),
        }
    }
}

/// The file, as it was given, of the image that the linker knows by `path`, if it knows an image by it.
///
/// Costs one system call for other paths. A record that is unlisted while this looks is leaked.
pub(crate) fn file_of_image(path: &Path) -> Option<PathBuf> {
    let copy = is_of_descriptor(path).then(|| FileId::at(path))??;
    let images = IMAGES.read();
    let image = images.iter().find(|image| image.copy == copy);
    image.map(|image| image.given.clone())
}

/// All images that are mapped, or are being opened. Those that are unlisted while this exists are leaked.
#[cfg(feature = "backtrace")]
pub(crate) fn images() -> ListReader<ImageRecord> {
    IMAGES.read()
}

/// Called in the handler of a signal.
fn report(crash: &Crash, maps: &mut Maps, line: &mut Line) {
    let images = IMAGES.read();
    let opened = Opened::by_thread(crash.thread, &images, maps);
    let culprit = find(crash, &images, opened.as_ref());
    // A line takes all that is written to it.
    let _ = describe(crash, culprit.as_ref(), maps, line);
    // First: whoever reads standard error may be slow.
    let record = culprit.and_then(|(image, _)| image.record.as_ref());
    if let Some(Err(error)) = record.map(|record| line.append_to(record)) {
        let _ = write!(line, ", not recorded: {}", error.desc());
    }
    line.write_to_stderr();
}

/// The image whose crash it is, and why.
fn find<'a>(
    crash: &Crash,
    images: &'a ListReader<ImageRecord>,
    opened: Option<&Opened<'a>>,
) -> Option<(&'a ImageRecord, Because)> {
    let at = |address| {
        let of_opened = |it: &Opened<'a>| Some((it.image, it.offset(address)?));
        let mut images = images.iter();
        let found = images.find_map(|image| Some((image, image.offset(address)?)));
        found.or_else(|| opened.and_then(of_opened))
    };
    let is_called =
        |image: &&ImageRecord| values_of_thread(crash.thread).any(|value| image.is_called(value));
    let called = || {
        let mut called = images.iter().filter(is_called);
        let first = called.next()?;
        if called.next().is_none() {
            return Some(first);
        }
        // A call inside a call: the one whose code is nearest on the stack.
        let is_code = |image: &&ImageRecord, address| image.offset(address).is_some();
        let nearest = crash.find_on_stack(|address| {
            let mut called = images.iter().filter(is_called);
            called.find(|image| is_code(image, address))
        });
        Some(nearest.unwrap_or(first))
    };
    if let Some((image, offset)) = at(crash.instruction) {
        return Some((image, Because::Instruction(offset)));
    }
    if let Some(image) = called() {
        return Some((image, Because::Call));
    }
    // A thread that opens an image does nothing else. What it has left on its stack earlier is of no image that fails
    // now.
    if let Some(it) = opened {
        let offset = crash.find_on_stack(|address| it.offset(address));
        return Some((it.image, offset.map_or(Because::Opens, Because::Stack)));
    }
    let (image, offset) = crash.find_on_stack(at)?;
    Some((image, Because::Stack(offset)))
}

fn describe(
    crash: &Crash,
    culprit: Option<&(&ImageRecord, Because)>,
    maps: &mut Maps,
    line: &mut Line,
) -> std::fmt::Result {
    write!(line, "hotswap: {}", crash.signal)?;
    if let Some(address) = crash.address {
        write!(line, " (address {address:#x}")?;
        if crash.is_near_stack_pointer() {
            write!(line, ", at the end of the stack")?;
        }
        write!(line, ")")?;
    }
    let name = Escaped(crash.thread_name());
    write!(line, " on thread {} \"{name}\": ", crash.thread)?;
    let Some((image, because)) = culprit else {
        return describe_place(crash, maps, line);
    };
    if let Because::Instruction(offset) = because {
        write!(line, "in ")?;
        image.write_to(line)?;
        write!(line, ", at offset {offset:#x}")?;
        return image.write_details_to(line);
    }
    describe_place(crash, maps, line)?;
    write!(line, ", probably because of ")?;
    image.write_to(line)?;
    match because {
        Because::Call => write!(line, ", which the thread has called")?,
        Because::Opens => write!(line, ", which the thread loads")?,
        Because::Stack(offset) => write!(line, ", whose offset {offset:#x} is on the stack")?,
        Because::Instruction(_) => {}
    }
    image.write_details_to(line)
}

/// Where the instruction is, if it is no plugin's.
fn describe_place(crash: &Crash, maps: &mut Maps, line: &mut Line) -> std::fmt::Result {
    let Some(file) = maps.file_at(crash.instruction) else {
        return write!(line, "at {:#x}, where no code is", crash.instruction);
    };
    if file.path().as_os_str().is_empty() {
        return write!(line, "at {:#x}, in code of no file", crash.instruction);
    }
    let is_program = PROGRAM.get().is_some_and(|program| file.is_at(program));
    let whose = if is_program { "the host, " } else { "" };
    let path = Escaped(file.path());
    write!(line, "in {whose}{path} at {:#x} of the file", file.offset)
}

/// Checks that no crash is recorded of these bytes.
///
/// # Errors
///
/// One is, or the folder cannot be used.
pub(crate) fn check(folder: &Path, sha256: Sha256) -> Result<(), ErrorKind> {
    let unusable = |error: io::Error| ErrorKind::CrashFolder {
        path: folder.to_owned(),
        error: SystemError::from(error),
    };
    // Found now, and not when it is needed.
    if !fs::metadata(folder).map_err(unusable)?.is_dir() {
        return Err(unusable(io::ErrorKind::NotADirectory.into()));
    }
    let path = path_of(folder, sha256);
    match last_line(&path) {
        Ok(report) => Err(ErrorKind::Crashed { path, report }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ErrorKind::CrashFolder {
            path,
            error: SystemError::from(error),
        }),
    }
}

/// The last line of a record. Does not open what is not a regular file.
fn last_line(record: &Path) -> io::Result<String> {
    if Status::of_link(record)?.kind != FileKind::RegularFile {
        let message = "it is not a regular file, so whether these bytes have crashed is not known";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut file = File::open(record)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(RECORD_BYTES_MAX)))?;
    let mut end = Vec::new();
    file.take(RECORD_BYTES_MAX).read_to_end(&mut end)?;
    let text = String::from_utf8_lossy(&end);
    let mut lines = text.lines().rev().filter(|line| !line.trim().is_empty());
    // The file system may have been full when it was written.
    let empty = "(the record is empty)";
    Ok(printable(lines.next().unwrap_or(empty)))
}

fn path_of(folder: &Path, sha256: Sha256) -> PathBuf {
    folder.join(sha256.to_string())
}
