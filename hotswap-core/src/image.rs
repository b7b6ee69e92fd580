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

mod handlers;
mod keys;
mod memory;

mod dependencies;

mod account;

mod ending;
mod fork;
mod opener;
mod pin_reason;
mod stdout;

mod closed;

mod leaving;

mod libraries;

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    io,
    mem::{self, ManuallyDrop},
    ops::{ControlFlow, Range},
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr::{self, NonNull},
    sync::Arc,
};

use hotswap_elf::{Export, Facts};
use hotswap_unload::PluginTable;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

pub(crate) use self::{
    account::detach_current_thread_from_retired,
    fork::prepare_for_forks,
    leaving::{Exit, Gone, Leaving, Pinned},
    libraries::find_libraries,
    opener::{Opener, Spare},
};
use self::{
    account::{Account, AttachError},
    handlers::{Handlers, Snapshot},
    leaving::Attachment,
    libraries::Libraries,
};
pub use self::{
    libraries::OldLibrary,
    pin_reason::{HeapLeft, PinReason},
};
use crate::{
    error::{Error, ErrorKind, Result},
    stage::{Kept, Origin, Staged},
    trust::Policy,
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
    /// An allocator of the image may need it for as long as the image is mapped.
    opener: ManuallyDrop<Opener>,
    name: CString,
    place: Place,
    handlers: Arc<Handlers>,
    attachment: Attachment,
    policy: Policy,
    old_libraries: Vec<OldLibrary>,
    /// Until somebody has asked.
    untrusted_library: Option<Error>,
}

/// Where an image is mapped.
#[derive(Default)]
struct Place {
    /// What is added to an address of the file (`dlpi_addr`). Not where the first segment begins, unless the file's
    /// addresses begin at 0.
    bias: usize,
    segments: Vec<Range<usize>>,
    /// The segments that may be executed, of an image.
    code: Vec<Range<usize>>,
}

impl Image {
    /// Maps and links the copy, runs its initialisers, and attaches to its `unloadable!` if it has one. Before that it opens
    /// those of its libraries that the linker would not find. To be called on the thread of `opener`.
    pub(crate) fn open(staged: Staged, opener: &Opener, policy: &Policy) -> Result<Self> {
        let before = Snapshot::take();
        let libraries = Libraries::open(&staged, opener, policy)?;
        let (library, name, place) = match link(&staged, opener) {
            Ok(linked) => linked,
            Err(error) => return Err(libraries.give_up(error, opener, policy)),
        };
        dependencies::note(&staged.facts().needed);
        let (old_libraries, untrusted_library) = libraries.finish(&staged, policy);
        let handlers = Handlers::new(place.segments.clone(), before);
        let mut image = Self {
            library: ManuallyDrop::new(library),
            staged: ManuallyDrop::new(staged),
            opener: ManuallyDrop::new(opener.clone()),
            name,
            place,
            handlers,
            attachment: Attachment::Missing,
            policy: policy.clone(),
            old_libraries,
            untrusted_library,
        };
        if let Some(table) = image.own_symbol(hotswap_unload::TABLE_SYMBOL) {
            let table = table.as_ptr().cast_const().cast::<PluginTable>();
            let readable = |bytes| image.place.has(table.addr(), bytes);
            // SAFETY: the image itself defines the symbol, under the name of `unloadable!`, and as many bytes as are read are
            // mapped there; its initialisers have run, and nobody else has it. The account is closed before the
            // image is (`leaving`).
            let account = unsafe { Account::attach(table, readable, &image.handlers) };
            image.attachment = account.map_or_else(Attachment::Refused, Attachment::Attached);
        } else if image.facts().has_marker {
            image.attachment = Attachment::Refused(AttachError::NotFound);
        }
        Ok(image)
    }

    /// The address of a symbol that the image itself defines.
    ///
    /// # Panics
    ///
    /// One of its libraries is refused, and nobody has asked for that ([`check_libraries`](Self::check_libraries)).
    pub(crate) fn symbol(&self, name: &str) -> Option<NonNull<c_void>> {
        assert!(
            self.untrusted_library.is_none(),
            "an image is used before its libraries are checked"
        );
        self.own_symbol(name)
    }

    /// `dlsym` alone would also find one in a library that the image depends on.
    fn own_symbol(&self, name: &str) -> Option<NonNull<c_void>> {
        // SAFETY: the type is that of any address; it is not used as anything else here.
        let symbol = unsafe { self.library.get::<*mut c_void>(name) }.ok()?;
        let address = NonNull::new(symbol.as_raw_ptr())?;
        self.place.has(address.addr().get(), 1).then_some(address)
    }

    /// Copies what is mapped from `address` on. `false`: it is not all inside of one segment that can be read.
    pub(crate) fn read(&self, address: usize, into: &mut [u8]) -> bool {
        let is_readable = self.place.has(address, into.len());
        if is_readable {
            let from: *const u8 = ptr::with_exposed_provenance(address);
            // SAFETY: so many bytes are mapped there and can be read for as long as the image is borrowed, and `into` is
            // memory of the host's. They are constants of the image's, or, if the address is damaged, any bytes of it.
            unsafe { ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        }
        is_readable
    }

    /// Whether a function may begin at `address`, one of this image or of a library.
    pub(crate) fn leads_to_code(&self, address: usize) -> bool {
        let mut is_code = self.is_code(address);
        if !is_code {
            each_object(&mut |_, info| {
                is_code = segments(info, libc::PF_X).any(|segment| segment.contains(&address));
                if is_code {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        }
        is_code
    }

    /// Whether a function of this image may begin at `address`.
    pub(crate) fn is_code(&self, address: usize) -> bool {
        self.place
            .code
            .iter()
            .any(|segment| segment.contains(&address))
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

    /// Why the image is treated as one without `unloadable!` although it has one.
    pub(crate) fn unloadable_problem(&self) -> Option<String> {
        match &self.attachment {
            Attachment::Refused(problem) => Some(problem.to_string()),
            Attachment::Attached(_) | Attachment::Missing => None,
        }
    }

    /// The name and the version of the plugin's package, if its `unloadable!` tells.
    pub(crate) fn package(&self) -> Option<(String, String)> {
        match &self.attachment {
            Attachment::Attached(account) => Some(account.package()),
            Attachment::Refused(_) | Attachment::Missing => None,
        }
    }

    /// Refuses an image for which the linker has loaded a library by itself that the policy does not allow. Once: the
    /// image is to be given up then.
    pub(crate) fn check_libraries(&mut self) -> Result<()> {
        self.untrusted_library.take().map_or(Ok(()), Err)
    }

    /// The libraries that answer although others would be found now.
    pub(crate) fn old_libraries(&self) -> &[OldLibrary] {
        &self.old_libraries
    }

    /// Begins the way out.
    ///
    /// Owning the image means that nobody uses it through this crate: it is either a refused candidate,
    /// which nobody has seen, or part of a generation, which its cell gave up when it was drained. What a
    /// host has copied out of it, it promised not to use (`Trust::vouch`).
    pub(crate) fn retire(self) -> Leaving {
        Leaving::new(self)
    }
}

impl Place {
    /// That of the object described, with those segments that have all of `flags` (`PF_R`, `PF_W`).
    fn of(info: &libc::dl_phdr_info, flags: u32) -> Self {
        Self {
            bias: info.dlpi_addr as usize,
            segments: segments(info, flags).collect(),
            code: Vec::new(),
        }
    }

    /// Whether so many bytes from `address` on lie in one segment.
    fn has(&self, address: usize, bytes: usize) -> bool {
        let end = address.checked_add(bytes);
        let inside =
            |it: &Range<usize>| it.start <= address && end.is_some_and(|end| end <= it.end);
        self.segments.iter().any(inside)
    }

    /// The addresses from the first to the last segment.
    fn range(&self) -> Range<usize> {
        let start = self.segments.iter().map(|segment| segment.start).min();
        let end = self.segments.iter().map(|segment| segment.end).max();
        start.unwrap_or_default()..end.unwrap_or_default()
    }
}

/// Maps and links a copy, and runs its initialisers.
fn link(staged: &Staged, opener: &Opener) -> Result<(Library, CString, Place)> {
    let path = staged.loader_path()?;
    // SAFETY: this runs the initialisers of a file that somebody vouched for (`Trust::vouch`); the
    // bytes are the inspected ones, and nobody can change them.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| linker_error(staged, &path, error))?;
    let name = CString::new(path.into_os_string().as_bytes()).expect("a path that we made");
    let (library, opened_name, _) = opened_as(library);
    let given = &staged.origin().given;
    // The linker names an image by the path that it has opened for it, unless it has found that the file is mapped.
    if opened_name.as_ref() != Some(&name) {
        // The error of closing says nothing that a user could do something about.
        let _ = library.close();
        return Err(Error::new(given, ErrorKind::link("it is mapped already")));
    }
    let missing = || Error::new(given, ErrorKind::link("the system does not list it"));
    let place = staged
        .check_descriptor()
        .and_then(|()| find(&name).ok_or_else(missing));
    match place {
        Ok(place) => Ok((library, name, place)),
        Err(error) => {
            // Its initialisers have run, and may have started threads: it stays, and its thread with it.
            mem::forget((library, opener.clone()));
            Err(error)
        }
    }
}

/// What the linker calls an image, and what it adds to the addresses in its file.
fn opened_as(library: Library) -> (Library, Option<CString>, usize) {
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
    let (mut name, mut address) = (None, 0);
    if result == 0 && !map.is_null() {
        // SAFETY: the linker's description of an image lives as long as a handle of it is open.
        let map = unsafe { &*map };
        address = map.address;
        if !map.name.is_null() {
            // SAFETY: a name that is not null is a C string, which lives as long as the description.
            name = Some(unsafe { CStr::from_ptr(map.name) }.to_owned());
        }
    }
    // SAFETY: it is the handle from above, and nobody else has it.
    (unsafe { Library::from_raw(handle) }, name, address)
}

/// The segments of the object described that have all of `flags`.
fn segments(info: &libc::dl_phdr_info, flags: u32) -> impl Iterator<Item = Range<usize>> {
    // SAFETY: the linker says that there are so many program headers there, for as long as it lends `info`.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let bias = info.dlpi_addr as usize;
    let wanted =
        move |it: &&libc::Elf64_Phdr| it.p_type == libc::PT_LOAD && it.p_flags & flags == flags;
    headers.iter().filter(wanted).map(move |header| {
        let start = bias.wrapping_add(header.p_vaddr as usize);
        start..start.wrapping_add(header.p_memsz as usize)
    })
}

/// Where the image that was opened under `name` is mapped, if it is.
fn find(name: &CStr) -> Option<Place> {
    let mut found = None;
    each_object(&mut |other, info| {
        if other != name {
            return ControlFlow::Continue(());
        }
        found = Some(Place {
            code: segments(info, libc::PF_X).collect(),
            ..Place::of(info, libc::PF_R)
        });
        ControlFlow::Break(())
    });
    found
}

/// Calls `visit` with the name and the description of each object that is mapped, until it has seen enough. The
/// linker's lock is held meanwhile.
fn each_object(visit: &mut dyn FnMut(&CStr, &libc::dl_phdr_info) -> ControlFlow<()>) {
    type Visit<'a> = &'a mut dyn FnMut(&CStr, &libc::dl_phdr_info) -> ControlFlow<()>;

    unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
        // SAFETY: the linker gives a valid description, which is ours to read during this call.
        let info = unsafe { &*info };
        // SAFETY: `data` is the `visit` that is passed below, and nobody else has it meanwhile.
        let visit = unsafe { &mut *data.cast::<Visit<'_>>() };
        if info.dlpi_name.is_null() {
            return 0;
        }
        // SAFETY: a name that is not null is a C string.
        let name = unsafe { CStr::from_ptr(info.dlpi_name) };
        visit(name, info).is_break().into()
    }

    let mut visit: Visit<'_> = visit;
    // SAFETY: `each` treats its arguments as the linker documents them (man 3 dl_iterate_phdr), and `visit` outlives
    // the call.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut visit).cast()) };
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
    let advice = static_tls_help(&message, staged.facts());
    let kind = ErrorKind::Link { message, advice };
    Error::new(&staged.origin().given, kind)
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::given::GivenPath;
    use crate::trust::{Policy, Trust};

    const ANY: Export<'_> = Export::Prefixed {
        prefix: "hotswap_symbol_",
        size_min: 64,
    };

    /// As a file has it whose addresses do not begin at 0 (`-Wl,--image-base=0x10000000`).
    #[test]
    fn what_is_added_to_addresses_is_not_where_the_first_segment_begins() {
        // SAFETY: zeros are a valid header, and a valid description.
        let mut header: libc::Elf64_Phdr = unsafe { std::mem::zeroed() };
        header.p_type = libc::PT_LOAD;
        header.p_flags = libc::PF_R;
        header.p_vaddr = 0x1000_0000;
        header.p_memsz = 0x1000;
        // SAFETY: zeros are a valid description, of nothing.
        let mut info: libc::dl_phdr_info = unsafe { std::mem::zeroed() };
        info.dlpi_addr = 0x7f00_0000_0000;
        info.dlpi_phdr = &raw const header;
        info.dlpi_phnum = 1;
        let place = Place::of(&info, libc::PF_R);
        assert_eq!(place.bias, 0x7f00_0000_0000);
        assert!(place.has(0x7f00_1000_0000, 0x1000) && !place.has(0x7f00_1000_0000, 0x1001));
        assert!(!place.has(0x7f00_0000_0000, 1) && !place.has(usize::MAX, 2));
    }

    /// Closes it, and waits for that.
    fn gone(image: Image) {
        let mut leaving = Box::new(image.retire());
        loop {
            leaving = match leaving.try_close() {
                Exit::Gone(_) => return,
                Exit::NotYet(leaving) => leaving,
                Exit::Pinned(pinned) => panic!("{}", pinned.why()),
            };
        }
    }

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
        let path = GivenPath::new(&maths()).unwrap();
        let (staged, _) = Staged::prepare(&path, ANY, &trust).unwrap();
        let same = || Staged::from_sealed(staged.copy().unwrap(), ANY).unwrap();
        let (second, third) = (same(), same());
        let policy = trust.policy();
        let opener = Opener::start().unwrap();
        let image = opener.run(|| Image::open(staged, &opener, policy)).unwrap();
        let error = opener.run(|| Image::open(second, &opener, policy).map(drop));
        let error = error.unwrap_err();
        assert_eq!(error.reason(), "link: it is mapped already");
        // Nor was the one that is mapped closed with it.
        assert!(find(&image.name).is_some());
        gone(image);
        let opener = Opener::start().unwrap();
        let image = opener.run(|| Image::open(third, &opener, policy)).unwrap();
        gone(image);
    }
}
