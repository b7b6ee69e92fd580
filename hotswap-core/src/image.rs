//! Talking to the dynamic linker: open, find a symbol, close, and look whether the image has left.
//!
//! The only file that does; clippy's `disallowed-methods` keeps the linker's functions in here.
//!
//! `dlclose` returns 0 whether or not it unmapped anything. What it did is therefore looked up: an image
//! is identified by the path it was opened under, which no other image has while the descriptor of its
//! copy is open ([`Staged::loader_path`]). Never by its address: glibc maps the next image at the same
//! one nearly always.

use std::{
    ffi::{CStr, CString, OsStr, c_int, c_void},
    fmt::{self, Display},
    mem::ManuallyDrop,
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr::NonNull,
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::{
    error::{Error, Result, Stage},
    stage::{Origin, Staged},
};

/// A mapped, linked and initialised copy.
///
/// Dropping it leaves it mapped for good: only [`close`](Self::close), whose caller knows that nothing of
/// it is in use, may unmap code.
pub(crate) struct Image {
    library: ManuallyDrop<Library>,
    staged: ManuallyDrop<Staged>,
    name: CString,
    segments: Vec<Range<usize>>,
}

/// An image that is still mapped after it was closed.
pub(crate) struct Pinned {
    staged: ManuallyDrop<Staged>,
    name: CString,
    why: PinReason,
}

/// Why an image stays mapped although nobody uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PinReason {
    /// It was linked to stay (`-z nodelete`). It never leaves.
    NoDelete,
    /// It defines symbols of which a process may have only one (`STB_GNU_UNIQUE`, from C++). It never
    /// leaves.
    UniqueSymbols,
    /// A thread that is still running has used a thread-local of it that has a destructor. The image
    /// leaves some time after that thread has ended.
    ThreadLocals,
    /// The system did not unmap it, and nothing is known that would explain that.
    Unknown,
}

impl Image {
    /// Maps and links the copy and runs its initialisers.
    pub(crate) fn open(staged: Staged) -> Result<Self> {
        let path = staged.loader_path();
        let given = &staged.origin().given;
        // SAFETY: this runs the initialisers of a file that somebody vouched for (`Trust::vouch`); the
        // bytes are the inspected ones, and nobody can change them.
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| linker_error(given, &path, error))?;
        let name = CString::new(path.into_os_string().as_bytes()).expect("a path that we made");
        let segments = find(&name).unwrap_or_default();
        let (library, staged) = (ManuallyDrop::new(library), ManuallyDrop::new(staged));
        Ok(Self {
            library,
            staged,
            name,
            segments,
        })
    }

    /// The address of a symbol that the image itself defines. (`dlsym` alone would also find one in a
    /// library that the image depends on.)
    pub(crate) fn symbol(&self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the type is that of any address; it is not used as anything else here.
        let symbol = unsafe { self.library.get::<*mut c_void>(name) }.ok()?;
        let address = NonNull::new(symbol.as_raw_ptr())?;
        let inside = |segment: &Range<usize>| segment.contains(&address.addr().get());
        self.segments.iter().any(inside).then_some(address)
    }

    pub(crate) fn origin(&self) -> &Origin {
        self.staged.origin()
    }

    /// Runs the image's own destructors, unmaps it if the system does, and says if it did not.
    ///
    /// Owning the image means that nobody uses it through this crate: it is either a refused candidate,
    /// which nobody has seen, or part of a generation, which its cell gave up when it was drained. What a
    /// host has copied out of it, it promised not to use (`Trust::vouch`).
    pub(crate) fn close(self) -> Result<(), Box<Pinned>> {
        let Self {
            library,
            staged,
            name,
            segments: _,
        } = self;
        // The error says only what looking says better.
        let _ = ManuallyDrop::into_inner(library).close();
        let why = PinReason::of(&staged);
        Box::new(Pinned { staged, name, why }).look()
    }
}

impl Pinned {
    /// Asks the system again, and looks.
    ///
    /// An image that is kept by a thread does not leave when that thread ends, but with the next
    /// `dlclose` that unloads anything (glibc 2.36, 2026-11). Opening and closing it once more is one.
    pub(crate) fn retry(self: Box<Self>) -> Result<(), Box<Self>> {
        if self.why.is_final() {
            return Err(self);
        }
        if find(&self.name).is_some() {
            let path = Path::new(OsStr::from_bytes(self.name.as_bytes()));
            // SAFETY: with RTLD_NOLOAD nothing is loaded and no initialiser runs.
            if let Ok(library) = unsafe { Library::open(Some(path), RTLD_NOW | libc::RTLD_NOLOAD) }
            {
                let _ = library.close();
            }
        }
        self.look()
    }

    pub(crate) fn why(&self) -> PinReason {
        self.why
    }

    fn look(self: Box<Self>) -> Result<(), Box<Self>> {
        if find(&self.name).is_some() {
            return Err(self);
        }
        // Only now may another copy get the same descriptor, and with it the same path.
        drop(ManuallyDrop::into_inner(self.staged));
        Ok(())
    }
}

impl PinReason {
    /// Whether there is no use in asking again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::NoDelete | Self::UniqueSymbols)
    }

    fn of(staged: &Staged) -> Self {
        let facts = staged.facts();
        if facts.nodelete {
            Self::NoDelete
        } else if facts.unique_symbols {
            Self::UniqueSymbols
        } else if facts.thread_exit_hook {
            // By elimination: nothing else keeps an image that no other image depends on.
            Self::ThreadLocals
        } else {
            Self::Unknown
        }
    }
}

impl Display for PinReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDelete => "it is linked with `-z nodelete`, so that the system never unmaps it",
            Self::UniqueSymbols => {
                "it defines unique symbols (STB_GNU_UNIQUE), so that the system never unmaps it"
            }
            Self::ThreadLocals => {
                "a living thread has yet to run a destructor of one of its thread-locals"
            }
            Self::Unknown => "the system did not unmap it and does not say why",
        })
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
fn linker_error(given: &Path, opened: &Path, error: libloading::Error) -> Error {
    let cause =
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
    let prefix = format!("{}: ", opened.display());
    let message = if cause.is_empty() {
        "the system did not say why"
    } else {
        &cause
    };
    Error::new(Stage::Link, given, message.replace(&prefix, ""))
}
