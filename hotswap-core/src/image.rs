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
//! identified by the path it was opened under, which no other image has or had
//! ([`Staged::loader_path`]). Never by its address: glibc maps the next image at the same one nearly
//! always.

mod account;
mod keys;
mod leaving;
mod stdout;

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    io,
    mem::ManuallyDrop,
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr::{self, NonNull},
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
        let path = staged.loader_path()?;
        let given = &staged.origin().given;
        // SAFETY: this runs the initialisers of a file that somebody vouched for (`Trust::vouch`); the
        // bytes are the inspected ones, and nobody can change them.
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| linker_error(given, &path, error))?;
        let name = CString::new(path.into_os_string().as_bytes()).expect("a path that we made");
        let (library, is_ours) = is_called(library, &name);
        if let Err(error) = staged.check_descriptor().and_then(|()| match is_ours {
            true => Ok(()),
            false => Err(Error::new(Stage::Link, given, "it is mapped already")),
        }) {
            // The error of closing says nothing that a user could do something about.
            let _ = library.close();
            return Err(error);
        }
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

/// Whether the linker calls an image `name`. It does if it has opened that path for it, and not if it has found that
/// the file is mapped already.
fn is_called(library: Library, name: &CStr) -> (Library, bool) {
    /// How glibc's `struct link_map` begins, for debuggers and so for good (`link.h`).
    #[repr(C)]
    struct LinkMap {
        address: usize,
        name: *const c_char,
    }

    let handle = library.into_raw();
    let mut map: *const LinkMap = ptr::null();
    // SAFETY: the handle is open, and this request writes the address of the image's `link_map` (man 3 dlinfo).
    let result = unsafe { libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, (&raw mut map).cast()) };
    let is_called = result == 0 && !map.is_null() && {
        // SAFETY: the linker's description of an image lives as long as a handle of it is open.
        let found = unsafe { (*map).name };
        // SAFETY: a name is null or a C string, which lives as long as the description.
        !found.is_null() && unsafe { CStr::from_ptr(found) } == name
    };
    // SAFETY: it is the handle from above, and nobody else has it.
    (unsafe { Library::from_raw(handle) }, is_called)
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
    // The path is named at other places too: `… (required by /proc/4711/fd/5)`.
    let message = message
        .replace(&prefix, "")
        .replace(&*opened.to_string_lossy(), "it");
    Error::new(Stage::Link, given, message)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::trust::{Policy, Trust};

    const ANY: Export<'_> = Export::Prefixed {
        prefix: "hotswap_symbol_",
        size_min: 64,
    };

    /// A library that this process runs on anyway; its copies are images of their own.
    fn maths() -> PathBuf {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut all = maps
            .lines()
            .filter_map(|line| Some(&line[line.find('/')?..]));
        let maths = all.find(|path| path.contains("/libm.so"));
        PathBuf::from(maths.expect("this test has it"))
    }

    #[test]
    fn an_image_that_was_mapped_before_is_not_taken_for_a_new_one() {
        assert!(std::hint::black_box(2f64).cos() < 0.0, "so it is linked");
        let policy = Policy {
            any_owner: true,
            ..Policy::default()
        };
        // SAFETY: the system's library.
        let trust = unsafe { Trust::vouch(policy) };
        let (staged, _) = Staged::prepare(&maths(), ANY, &trust).unwrap();
        let same = || Staged::from_sealed(staged.copy().unwrap(), ANY).unwrap();
        let (second, third) = (same(), same());
        let image = Image::open(staged).unwrap();
        let error = Image::open(second).map(drop).unwrap_err();
        assert_eq!(error.reason(), "link: it is mapped already");
        // Nor was the one that is mapped closed with it.
        assert!(find(&image.name).is_some());
        assert!(matches!(Box::new(image.retire()).try_close(), Exit::Gone));
        let image = Image::open(third).unwrap();
        assert!(matches!(Box::new(image.retire()).try_close(), Exit::Gone));
    }
}
