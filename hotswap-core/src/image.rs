//! Mapped copies: open an image, find a symbol, close it, and check that it is gone.
//!
//! Only this file and its folder open, close and look into objects ([`linker`]).
//!
//! # The way out
//!
//! ```text
//! Image ──retire──► Leaving ──try_close──► gone, or Pinned ──retry──► gone
//! ```
//!
//! An image without calls inside may still run code: in threads that it started, and in functions that the system
//! calls when a thread ends. [`leaving`] waits for those.
//!
//! `dlclose` returns 0 whether or not it unmapped anything, so hotswap checks afterwards whether the image is still
//! mapped. It identifies the image by the path under which it was opened, which no other image has or had
//! ([`Staged::loader_path`]), and never by its address: glibc nearly always maps the next image at the same one.

mod handlers;

mod dependencies;

mod account;

mod ending;
mod fork;
mod linker_lock;
mod opener;
mod pin_reason;
pub(crate) mod process_end;
mod stdout;

mod closed;

mod leaving;

mod libraries;

use std::{
    ffi::{CString, c_void},
    io,
    mem::{self, ManuallyDrop},
    path::Path,
    ptr::{self, NonNull},
    sync::{Arc, Mutex, PoisonError},
};

use hotswap_cell::{Listed, ValueId};
use hotswap_elf::{Export, Facts};
use hotswap_unload::PluginTable;

use self::{
    account::Account,
    handlers::{Handlers, Snapshot},
    leaving::Attachment,
    libraries::Libraries,
};
pub(crate) use self::{
    account::detach_current_thread_from_retired,
    fork::prepare_for_forks,
    leaving::{Exit, Gone, Leaving, Pinned},
    libraries::find_libraries,
    linker_lock::{closing_for, is_held_here},
    opener::{Opener, Spare},
};
pub use self::{
    libraries::OldLibrary,
    pin_reason::{HeapLeft, PinReason},
};
use crate::{
    crash::ImageRecord,
    error::{Error, ErrorKind, Result},
    stage::{Kept, Origin, Staged},
    system::linker::{self, Access, Description, Mapping, Object},
    trust::Policy,
};

/// The advice for a host whose static TLS is used up: how to get more.
pub(crate) const STATIC_TLS_TUNABLE: &str = "GLIBC_TUNABLES=glibc.rtld.optional_static_tls=BYTES in the environment \
     of the host sets how much there is";

/// A mapped, linked and initialised copy.
///
/// Dropping it leaves it mapped for good: only [`retire`](Self::retire) begins the steps that may unmap code.
pub(crate) struct Image {
    object: ManuallyDrop<Object>,
    staged: ManuallyDrop<Staged>,
    /// An allocator in the image may need this thread for as long as the image is mapped.
    opener: ManuallyDrop<Opener>,
    name: CString,
    /// The readable segments.
    mapping: Mapping,
    /// The executable segments.
    code: Mapping,
    handlers: Arc<Handlers>,
    attachment: Attachment,
    policy: Policy,
    /// What a crash report says of it. It is kept until the image is gone, too.
    record: Arc<Listed<ImageRecord>>,
    old_libraries: Vec<OldLibrary>,
    kept: ManuallyDrop<KeptUntilGone>,
    /// `Some` if a library was refused, until [`check_libraries`](Self::check_libraries) takes it.
    untrusted_library: Option<Error>,
}

/// What code of an image may use as long as it is mapped.
type KeptUntilGone = Mutex<Vec<Box<dyn Send>>>;

impl Image {
    /// Maps and links the copy, runs its initialisers, and attaches to its `unloadable!` if it has one.
    ///
    /// First it opens those of the image's libraries that the linker would not find. Call it on the thread of
    /// `opener`.
    pub(crate) fn open(staged: Staged, opener: &Opener, policy: &Policy) -> Result<Self> {
        let before = Snapshot::take();
        let origin = staged.origin();
        let record = Arc::new(ImageRecord::list(
            &origin.given,
            opener.tid().cast_unsigned(),
            staged.copy_id(),
            policy.avoid_crashed.as_deref(),
            staged.facts().build_id.as_deref(),
            origin.sha256,
        ));
        let libraries = Libraries::open(&staged, opener, policy)?;
        let Linked {
            object,
            name,
            mapping,
            code,
        } = match link(&staged, opener) {
            Ok(linked) => linked,
            Err(error) => return Err(libraries.give_up(error, opener, policy)),
        };
        #[cfg(feature = "backtrace")]
        record.is_in(staged.file());
        record.mapped(code.clone());
        process_end::watch_for();
        dependencies::note(&dependencies::loaded(staged.facts()));
        let (old_libraries, untrusted_library) = libraries.finish(&staged, policy);
        let handlers = Handlers::new(mapping.clone(), before);
        let mut image = Self {
            object: ManuallyDrop::new(object),
            staged: ManuallyDrop::new(staged),
            opener: ManuallyDrop::new(opener.clone()),
            name,
            mapping,
            code,
            handlers,
            attachment: Attachment::Missing,
            policy: policy.clone(),
            record: Arc::clone(&record),
            old_libraries,
            kept: ManuallyDrop::default(),
            untrusted_library,
        };
        if let Some(table) = image.own_symbol(hotswap_unload::TABLE_SYMBOL) {
            let table = table.as_ptr().cast_const().cast::<PluginTable>();
            // SAFETY: the image itself defines the symbol under the name that `unloadable!` uses. These are its
            // segments. Its initialisers have run, and nobody else uses the table. `leaving` closes the account before
            // it closes the image.
            let account =
                unsafe { Account::attach(table, &image.mapping, &image.code, &image.handlers) };
            image.attachment = account.map_or_else(Attachment::Refused, Attachment::Attached);
        } else if image.facts().has_marker {
            let problem = "its `unloadable!` is not found in it";
            image.attachment = Attachment::Refused(problem.to_owned());
        }
        if let Some(package) = image.package() {
            record.is_of(package);
        }
        image.keep_until_gone(record);
        Ok(image)
    }

    /// The address of a symbol that the image itself defines.
    ///
    /// # Panics
    ///
    /// If one of its libraries is refused and [`check_libraries`](Self::check_libraries) was not called.
    pub(crate) fn symbol(&self, name: &str) -> Option<NonNull<c_void>> {
        assert!(
            self.untrusted_library.is_none(),
            "an image is used before its libraries are checked"
        );
        self.own_symbol(name)
    }

    /// Finds a symbol that the image itself defines; [`Object::symbol`] alone also finds those of the libraries that it
    /// depends on.
    fn own_symbol(&self, name: &str) -> Option<NonNull<c_void>> {
        let address = self.object.symbol(name)?;
        self.mapping.has(address.addr().get(), 1).then_some(address)
    }

    /// Copies the bytes that are mapped at `address`. Returns `false`, and copies nothing, unless one readable
    /// segment contains them all.
    pub(crate) fn read(&self, address: usize, into: &mut [u8]) -> bool {
        let is_readable = self.mapping.has(address, into.len());
        if is_readable {
            let from: *const u8 = ptr::with_exposed_provenance(address);
            // SAFETY: the line above found that one readable segment contains these bytes; it stays mapped while the
            // image is borrowed. `into` is the host's own memory. The bytes are constants of the image, or any bytes
            // of it if the address is damaged.
            unsafe { ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        }
        is_readable
    }

    /// Whether `address` lies in executable memory of any mapped object: this image, a library, or the host.
    pub(crate) fn leads_to_code(&self, address: usize) -> bool {
        let has_it = |object: &Description<'_>| {
            let mut code = object.segments(Access::Execute);
            code.any(|segment| segment.contains(&address)).then_some(())
        };
        self.is_code(address) || linker::find_object(has_it).is_some()
    }

    /// Whether `address` lies in executable memory of this image.
    pub(crate) fn is_code(&self, address: usize) -> bool {
        self.code.has(address, 1)
    }

    pub(crate) fn origin(&self) -> &Origin {
        self.staged.origin()
    }

    pub(crate) fn facts(&self) -> &Facts {
        self.staged.facts()
    }

    /// Checks that the file defines this symbol too; the error says why it does not.
    pub(crate) fn inspect(&self, export: Export<'_>) -> std::result::Result<(), String> {
        self.staged.inspect(export)
    }

    /// Keeps the bytes, so that they can be loaded again later.
    pub(crate) fn keep(&self) -> io::Result<Kept> {
        self.staged.keep()
    }

    /// Why hotswap treats the image as one without `unloadable!` although it has one.
    pub(crate) fn unloadable_problem(&self) -> Option<String> {
        match &self.attachment {
            Attachment::Refused(problem) => Some(format!(
                "treated as a plugin without `unloadable!`: {problem}"
            )),
            Attachment::Attached(_) | Attachment::Missing => None,
        }
    }

    /// The name and version of the plugin's package, if it has an `unloadable!`.
    pub(crate) fn package(&self) -> Option<(String, String)> {
        self.attachment.account().map(Account::package)
    }

    /// Refuses the image if the linker loaded a library for it that the policy does not allow. The error is returned
    /// once; the caller then has to give up the image.
    pub(crate) fn check_libraries(&mut self) -> Result<()> {
        self.untrusted_library.take().map_or(Ok(()), Err)
    }

    /// The libraries that were mapped already and serve this image, although a search would now find other files.
    pub(crate) fn old_libraries(&self) -> &[OldLibrary] {
        &self.old_libraries
    }

    /// Keeps what code of the image may use, until the image was seen to be gone. It is dropped before anybody learns
    /// of that. If the image stays mapped, so does this.
    pub(crate) fn keep_until_gone(&self, used: impl Send + 'static) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(Box::new(used));
    }

    /// Call it before the image is published as a generation, whose calls are those on these values.
    pub(crate) fn published(&self, generation: u64, calls: ValueId, polls: Option<ValueId>) {
        self.record.published(generation, calls, polls);
    }

    /// Begins the way out.
    ///
    /// The caller owns the image, so nobody uses it through this crate: it is a refused candidate, which nobody has
    /// seen, or part of a generation that its cell gave up after draining. The host promised not to use what it
    /// copied out of the image (`Trust::vouch`).
    pub(crate) fn retire(self) -> Leaving {
        Leaving::new(self)
    }
}

/// What the linker has made of a copy.
struct Linked {
    object: Object,
    name: CString,
    mapping: Mapping,
    code: Mapping,
}

/// Maps and links a copy, and runs its initialisers.
fn link(staged: &Staged, opener: &Opener) -> Result<Linked> {
    let path = staged.loader_path()?;
    // SAFETY: this runs the initialisers of a file that somebody vouched for (`Trust::vouch`). The linker maps the
    // bytes that were inspected, and nobody can change them. `Closed` drops the object when nothing calls the image.
    let object = linker_lock::opening(|| unsafe { Object::open(&path) });
    let object = object.map_err(|message| linker_error(staged, &path, &message))?;
    let name = CString::new(path.as_os_str().as_encoded_bytes()).expect("a path that we made");
    let given = &staged.origin().given;
    // The linker names an image by the path that it was asked to open, unless it finds that the file is already
    // mapped.
    if object.name.as_ref() != Some(&name) {
        object.close();
        return Err(Error::new(given, ErrorKind::link("it is mapped already")));
    }
    let missing = || Error::new(given, ErrorKind::link("the system does not list it"));
    let of_image = |it: &Description<'_>| {
        let is_it = it.name == &*name;
        is_it.then(|| (it.mapping(Access::Read), it.mapping(Access::Execute)))
    };
    let found = staged
        .check_descriptor()
        .and_then(|()| linker::find_object(of_image).ok_or_else(missing));
    match found {
        Ok((mapping, code)) => Ok(Linked {
            object,
            name,
            mapping,
            code,
        }),
        Err(error) => {
            // Its initialisers have run and may have started threads: the image and its thread stay.
            mem::forget((object, opener.clone()));
            Err(error)
        }
    }
}

/// The linker's own message, with the path that the user gave in place of the one that the linker was given.
fn linker_error(staged: &Staged, opened: &Path, message: &str) -> Error {
    let prefix = format!("{}: ", opened.display());
    let message = if message.is_empty() {
        "the system did not say why"
    } else {
        message
    };
    // The message may name the path at other places too: `… (required by /proc/4711/fd/5)`.
    let message = message
        .replace(&prefix, "")
        .replace(&*opened.to_string_lossy(), "it");
    let advice = static_tls_help(&message, staged.facts());
    let kind = ErrorKind::Link { message, advice };
    Error::new(&staged.origin().given, kind)
}

/// The advice to add if `message` says that no static TLS is left. It is missed where the host has set a locale,
/// since glibc then translates its messages.
fn static_tls_help(message: &str, facts: &Facts) -> Option<String> {
    match facts.static_tls_bytes() {
        Some(bytes) if message.contains("TLS") => Some(format!(
            "it needs {bytes} bytes of static TLS, which glibc rarely gives back; {STATIC_TLS_TUNABLE}"
        )),
        // A library that the plugin needs was not inspected, so its need is unknown.
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

    /// Closes the image, and waits until it is gone.
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

    /// A library that this process runs on anyway; each copy of it is an image of its own.
    fn maths() -> PathBuf {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut all = maps
            .lines()
            .filter_map(|line| Some(&line[line.find('/')?..]));
        // `libm-2.31.so` before glibc 2.34.
        let maths = all.find(|path| path.contains("/libm.so") || path.contains("/libm-"));
        PathBuf::from(maths.expect("this test has it"))
    }

    #[test]
    fn an_image_that_is_mapped_already_is_refused() {
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
        // The failed open did not close the image that is mapped.
        assert!(linker::is_mapped(&image.name));
        gone(image);
        let opener = Opener::start().unwrap();
        let image = opener.run(|| Image::open(third, &opener, policy)).unwrap();
        gone(image);
    }
}
