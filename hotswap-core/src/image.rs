//! Talking to the dynamic linker: open, find a symbol, close, and look whether the image has left.
//!
//! The only file that does, with those below it; clippy's `disallowed-methods` keeps the linker's functions
//! in here.
//!
//! # The way out
//!
//! ```text
//! Image ──retire──► Leaving ──try_close──► gone, or Pinned ──retry──► gone
//! ```
//!
//! That no call is inside an image is no proof that nothing of it will run: it may have threads of its own,
//! and functions that the system calls when a thread ends. [`leaving`] waits for those.
//!
//! `dlclose` returns 0 whether or not it unmapped anything. What it did is therefore looked up: an image is
//! identified by the path it was opened under, which no other image has while the descriptor of its copy is
//! open ([`Staged::loader_path`]). Never by its address: glibc maps the next image at the same one nearly
//! always.

mod account;
mod keys;
mod leaving;
mod stdout;

use std::{
    ffi::{CStr, CString, c_int, c_void},
    io,
    mem::ManuallyDrop,
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr::NonNull,
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

pub use self::leaving::PinReason;
use self::{account::Account, leaving::Kit};
pub(crate) use self::{
    account::detach_current_thread_from_retired,
    leaving::{Exit, Leaving, Obstacle, Pinned},
};
use crate::{
    elf::{Export, Facts},
    error::{Error, Result, Stage},
    stage::{Kept, Origin, Staged},
};

/// How a host gets more static TLS, for those who have used it up.
pub(crate) const STATIC_TLS_TUNABLE: &str = "GLIBC_TUNABLES=glibc.rtld.optional_static_tls=BYTES in the environment \
     of the host sets how much there is";

/// A mapped, linked and initialised copy.
///
/// Dropping it leaves it mapped for good: only the way out, which begins with [`retire`](Self::retire), may
/// unmap code.
pub(crate) struct Image {
    library: ManuallyDrop<Library>,
    staged: ManuallyDrop<Staged>,
    name: CString,
    segments: Vec<Range<usize>>,
    kit: Kit,
}

impl Image {
    /// Maps and links the copy, runs its initialisers, and shakes hands with its kit if it has one.
    pub(crate) fn open(staged: Staged) -> Result<Self> {
        let path = staged.loader_path();
        // SAFETY: this runs the initialisers of a file that somebody vouched for (`Trust::vouch`); the
        // bytes are the inspected ones, and nobody can change them.
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| linker_error(&staged, &path, error))?;
        let name = CString::new(path.into_os_string().as_bytes()).expect("a path that we made");
        let segments = find(&name).unwrap_or_default();
        let mut image = Self {
            library: ManuallyDrop::new(library),
            staged: ManuallyDrop::new(staged),
            name,
            segments,
            kit: Kit::Missing,
        };
        if let Some(table) = image.symbol(hotswap_kit::TABLE_SYMBOL) {
            // SAFETY: the image itself defines the symbol, under the kit's name; its initialisers have run,
            // and nobody else has it. The account is closed before the image is (`leaving`).
            let account = unsafe { Account::attach(table.as_ptr().cast_const().cast()) };
            image.kit = account.map_or_else(Kit::Refused, Kit::Attached);
        }
        Ok(image)
    }

    /// The address of a symbol that the image itself defines. (`dlsym` alone would also find one in a
    /// library that the image depends on.)
    pub(crate) fn symbol(&self, name: &str) -> Option<NonNull<c_void>> {
        // SAFETY: the type is that of any address; it is not used as anything else here.
        let symbol = unsafe { self.library.get::<*mut c_void>(name) }.ok()?;
        let address = NonNull::new(symbol.as_raw_ptr())?;
        let inside = |segment: &Range<usize>| segment.contains(&address.addr().get());
        self.segments.iter().any(inside).then_some(address)
    }

    pub(crate) fn origin(&self) -> &Origin {
        self.staged.origin()
    }

    pub(crate) fn facts(&self) -> &Facts {
        self.staged.facts()
    }

    /// Whether the file defines one more symbol, or why it does not.
    pub(crate) fn inspect(&self, export: Export<'_>) -> std::result::Result<(), String> {
        self.staged.inspect(export)
    }

    /// The bytes, to be loaded again some time.
    pub(crate) fn keep(&self) -> io::Result<Kept> {
        self.staged.keep()
    }

    /// Why the image is treated as one without the kit although it has one.
    pub(crate) fn kit_problem(&self) -> Option<String> {
        match &self.kit {
            Kit::Refused(problem) => Some(problem.to_string()),
            Kit::Attached(_) | Kit::Missing => None,
        }
    }

    /// The name and the version of the plugin's package, if its kit tells.
    pub(crate) fn package(&self) -> Option<(String, String)> {
        match &self.kit {
            Kit::Attached(account) => Some(account.package()),
            Kit::Refused(_) | Kit::Missing => None,
        }
    }

    /// Begins the way out.
    ///
    /// Owning the image means that nobody uses it through this crate: it is either a refused candidate,
    /// which nobody has seen, or part of a generation, which its cell gave up when it was drained. What a
    /// host has copied out of it, it promised not to use (`Trust::vouch`).
    pub(crate) fn retire(self) -> Leaving {
        Leaving::new(self)
    }

    /// The addresses from the first to the last segment.
    fn range(&self) -> Range<usize> {
        let start = self.segments.iter().map(|segment| segment.start).min();
        let end = self.segments.iter().map(|segment| segment.end).max();
        start.unwrap_or_default()..end.unwrap_or_default()
    }
}

/// The mapped segments of the image that was opened under `name`, if it is mapped.
fn find(name: &CStr) -> Option<Vec<Range<usize>>> {
    struct Search<'a> {
        name: &'a CStr,
        found: Option<Vec<Range<usize>>>,
    }

    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _: usize,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: the linker gives a valid description, which is ours to read during this call.
        let info = unsafe { &*info };
        // SAFETY: `data` is the `Search` that `find` passes, and nobody else has it meanwhile.
        let search = unsafe { &mut *data.cast::<Search<'_>>() };
        // SAFETY: a name is null or a C string.
        if info.dlpi_name.is_null() || unsafe { CStr::from_ptr(info.dlpi_name) } != search.name {
            return 0;
        }
        // SAFETY: the linker says that there are so many program headers there.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let segment = |header: &libc::Elf64_Phdr| {
            let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
            start..start.wrapping_add(header.p_memsz as usize)
        };
        let loaded = headers
            .iter()
            .filter(|header| header.p_type == libc::PT_LOAD);
        search.found = Some(loaded.map(segment).collect());
        1
    }

    let mut search = Search { name, found: None };
    // SAFETY: `visit` treats its arguments as the linker documents them (man 3 dl_iterate_phdr), and
    // `search` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.found
}

/// The linker's own words, with the path that a user knows for the one that the linker was given.
fn linker_error(staged: &Staged, opened: &Path, error: libloading::Error) -> Error {
    let cause =
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
    let prefix = format!("{}: ", opened.display());
    let message = if cause.is_empty() {
        "the system did not say why"
    } else {
        &cause
    };
    // The path is named at other places too: `… (required by /proc/4711/fd/5)`.
    let message = message
        .replace(&prefix, "")
        .replace(&*opened.to_string_lossy(), "it");
    let help = static_tls_help(&message, staged.facts());
    let message = help.map_or_else(|| message.clone(), |help| format!("{message}; {help}"));
    Error::new(Stage::Link, &staged.origin().given, message)
}

/// What to add if `message` says that there is no static TLS left. glibc translates its messages where the host has
/// set a locale.
fn static_tls_help(message: &str, facts: &Facts) -> Option<String> {
    match facts.static_tls_bytes() {
        Some(bytes) if message.contains("TLS") => Some(format!(
            "it needs {bytes} bytes of static TLS, which glibc rarely gives back; {STATIC_TLS_TUNABLE}"
        )),
        // A library that it needs is not one that was inspected.
        None if message.contains("static TLS block") => Some(STATIC_TLS_TUNABLE.to_owned()),
        _ => None,
    }
}
