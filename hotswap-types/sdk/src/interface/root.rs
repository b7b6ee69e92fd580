//! What a plugin exports, and how a host makes the plugin's value: it checks the root module, compares the descriptions
//! of both sides, and calls the constructor.

use std::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::Deref,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use abi_stable::{
    StableAbi,
    library::{CheckTypeLayout, LibHeader, RootModule, RootModuleResult},
    package_version_strings,
    prefix_type::WithMetadata,
    sabi_types::VersionStrings,
};

use super::{
    by_value::ByValue,
    call::{Dispatch, Nil, RawRemote, Remote, ReplyVtable, call_entry, dispatch},
    compare::compare,
    data::{ReadContext, ReadError},
    description::{DAMAGED, Description, TypeIndex, Types},
    fault::Fault,
    function::NoValue,
    object::{DispatchTarget, LeaseSource, Leases, RawObject, drop_quietly},
    runtime::{self, Runtime},
    sequences::IndirectSlice,
};
use crate::{
    calling,
    fault::{IsCalling, note_panics_of_calls},
};

/// The memory of a plugin's image, as a host sees it.
pub trait ImageMemory {
    /// Copies the bytes at this address. Returns `false`, and copies nothing, if they are not all mapped.
    fn read(&self, address: usize, into: &mut [u8]) -> bool;

    /// Whether there is code at this address, of the image or of a library.
    fn is_code(&self, address: usize) -> bool;
}

/// What a swap point can be of: a trait with [`#[interface]`](macro@crate::interface) (`dyn Trait`), or an abi_stable
/// root module.
///
/// # Safety
///
/// [`accept`](Self::accept) returns a handle by which the interface can be called safely. Only the macro and this
/// module implement the trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an interface",
    label = "neither `dyn` of a trait with `#[interface]` nor an abi_stable root module",
    note = "mark the trait with `#[hotswap_sdk::interface]`"
)]
pub unsafe trait Interface {
    /// [`Trait`] or [`Raw`].
    type Kind;
    /// The root module that the plugin exports.
    type Module: RootModule + Copy + Send + Sync + 'static;
    /// What a generation keeps: the proxy of the plugin's value, or the root module.
    type Live: Send + Sync + 'static;
    /// What a call gets: `dyn Trait + 'a`, so that a function of `&dyn Trait` can be given where a closure is asked
    /// for; or the root module.
    type Borrowed<'a>: ?Sized + 'a;

    /// Its name in messages.
    fn name() -> String;

    /// Checks the rest of the module, and makes the plugin's value, whose objects get their leases from `leases` and
    /// whose methods must be code in `memory`. Also returns the version of the interface that the plugin was built
    /// with, if that differs from the version in the module's header.
    ///
    /// # Errors
    ///
    /// Another interface or version, or a constructor that failed.
    ///
    /// # Safety
    ///
    /// The module's layout was checked to be that of `Module`. The result is used only while the image of the module is
    /// mapped and before the plugin's hook ([`end`]) runs. This is called once for an image.
    unsafe fn accept(
        module: Self::Module,
        memory: &dyn ImageMemory,
        leases: Arc<dyn LeaseSource>,
    ) -> Result<(Self::Live, Option<String>), Refused>;

    /// What a trial's probe gets.
    fn as_interface(live: &Self::Live) -> &Self;

    /// What a call gets.
    fn borrow(live: &Self::Live) -> &Self::Borrowed<'_>;
}

/// A trait that has a description.
///
/// # Safety
///
/// The description has all methods of the trait, in their order, with the types of their parameters and results.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an interface",
    label = "not an interface",
    note = "mark the trait with `#[hotswap_sdk::interface]`"
)]
pub unsafe trait Described: 'static {
    /// The name of the package that has the trait.
    const PACKAGE: &'static str;
    /// The name of the trait.
    const NAME: &'static str;
    /// The version of the package.
    const VERSION: &'static str;

    /// Adds the description of the trait.
    fn describe_interface(types: &mut Types) -> TypeIndex;
}

/// An interface that a host's own type `T` can implement; written by `#[interface]`.
///
/// # Safety
///
/// [`built_in`](Self::built_in) returns a handle by which the interface can be called safely.
#[diagnostic::on_unimplemented(
    message = "`{T}` does not implement the interface",
    label = "does not implement it"
)]
pub unsafe trait BuiltIn<T>: Interface {
    /// The proxy of `value`, as a generation keeps it.
    fn built_in(value: T, leases: Arc<dyn LeaseSource>) -> Self::Live;
}

/// The handle of a value of the host's own.
pub fn built_in<I, T>(value: T, leases: Arc<dyn LeaseSource>) -> Remote
where
    I: Dispatch<RootValue<T>> + ?Sized,
    T: Send + Sync + 'static,
{
    unsafe extern "C" fn drop_value<T>(this: *const ()) {
        // SAFETY: `this` is the address of the box that is leaked below. Its owner, a `Remote`, calls this once, when
        // it is dropped.
        let value = unsafe { Box::from_raw(this.cast_mut().cast::<RootValue<T>>()) };
        drop_quietly(value);
    }

    let raw = RawObject {
        remote: RawRemote {
            this: Box::into_raw(Box::new(RootValue(value)))
                .cast_const()
                .cast(),
            entries: I::VTABLE.as_ptr(),
            count: I::VTABLE.len(),
        },
        drop: drop_value::<T>,
    };
    // SAFETY: `raw` has a `Send` and `Sync` value in a leaked box, the vtable for it, and the function that drops it.
    // Their code is the host's own, which stays mapped without a lease.
    unsafe { Remote::object(raw, Some(leases), None) }
}

/// The kind of an interface that is a trait.
#[derive(Debug)]
pub enum Trait {}

/// The kind of an interface that is an abi_stable root module.
#[derive(Debug)]
pub enum Raw {}

/// Why a plugin cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was built with an incompatible version of the interface.
    Version {
        /// The interface.
        interface: String,
        /// The versions that are compatible.
        expected: String,
        /// The plugin's version.
        found: String,
    },
    /// Its interface or a type in it differs: where, what was expected, and what was found.
    Layout(String),
    /// The vtable has something else than the address of a function for this method.
    NotCode(String),
    /// Its constructor has returned an error, with this text.
    Failed(String),
    /// Its constructor has panicked, with this text.
    Panicked(String),
}

/// What every plugin with [`#[plugin]`](macro@crate::plugin) exports.
#[derive(StableAbi)]
#[repr(C)]
#[sabi(kind(Prefix(prefix_ref = PluginRootRef)))]
#[sabi(missing_field(panic))]
pub struct PluginRoot {
    /// An [`Entry`](super::Entry) that returns the description of the plugin's interface, as bytes. It does not use
    /// `this`.
    pub describe: unsafe extern "C" fn(
        this: *const (),
        arguments: *const (),
        out: *mut (),
        reply: *const ReplyVtable,
    ) -> u32,
    /// An [`Entry`](super::Entry) that makes the plugin's value, and returns its handle. It does not use `this`, and is
    /// called once.
    #[sabi(last_prefix_field)]
    pub create: unsafe extern "C" fn(
        this: *const (),
        arguments: *const (),
        out: *mut (),
        reply: *const ReplyVtable,
    ) -> u32,
}

/// A type that is a plugin; implemented by [`#[plugin]`](macro@crate::plugin).
pub trait Plugin: Sized + 'static {
    /// The interface that it implements.
    type Interface: ?Sized + Described + Dispatch<RootValue<Self>>;

    /// Makes the value.
    ///
    /// # Errors
    ///
    /// The constructor's own error.
    fn make() -> Result<Self, String>;

    /// The static that owns the value.
    fn slot() -> &'static ValueSlot<Self>;

    /// The author's own hook, which runs before the value is dropped.
    fn before_unload();

    /// The runtime for async methods, if there is one.
    fn runtime() -> Option<&'static dyn Runtime> {
        None
    }
}

/// What the function `make` of a plugin of type `P` may return.
#[diagnostic::on_unimplemented(
    message = "`make` returns `{P}`, or a `Result<{P}, E>` whose error can be shown",
    label = "returns `{Self}`"
)]
pub trait Made<P> {
    /// The value, or the text of the error.
    ///
    /// # Errors
    ///
    /// The function's own error.
    fn made(self) -> Result<P, String>;
}

impl<P> Made<P> for P {
    fn made(self) -> Result<P, String> {
        Ok(self)
    }
}

impl<P, E: ToString> Made<P> for Result<P, E> {
    fn made(self) -> Result<P, String> {
        self.map_err(|error| error.to_string())
    }
}

/// The hook of a plugin: if the value was made, runs the author's own, ends the runtime, and drops the value. The host
/// runs it once, when the generation is retired and no call or lease uses it, or when the candidate was refused.
///
/// # Safety
///
/// No call uses the value, and none will.
pub unsafe fn end<P: Plugin>() {
    // SAFETY: the value is made before it is called, and no call uses it, and none will (`# Safety` of this function).
    // So this is the only reference to it.
    let value = unsafe { &mut *P::slot().value.get() };
    if value.is_some() {
        P::before_unload();
        // A value that is still borrowed is leaked.
        if runtime::end() {
            *value = None;
        }
    }
}

/// A plugin's value, or one of the host's own, as the target of its vtable.
#[derive(Debug)]
pub struct RootValue<T>(T);

/// A plugin's value, from its construction until the generation is retired. It is a static of the plugin, so that a
/// value without a destructor leaves nothing to do.
///
/// # Invariants
///
/// `value` is written by the call that has set `is_taken`, before anybody else has its address, and by [`end`].
#[derive(Debug)]
pub struct ValueSlot<T> {
    value: UnsafeCell<Option<RootValue<T>>>,
    is_taken: AtomicBool,
}

// SAFETY: the value is shared between threads and dropped on any of them. It is `Send` and `Sync`, because
// `#[interface]` demands both of every implementation. It is written before it is shared (invariant).
unsafe impl<T> Sync for ValueSlot<T> {}

impl RootModule for PluginRootRef {
    abi_stable::declare_root_module_statics! {PluginRootRef}

    const BASE_NAME: &'static str = "plugin";
    const NAME: &'static str = "hotswap-sdk";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

// SAFETY: the handle is the root module, whose functions are safe to call while the image is mapped.
#[diagnostic::do_not_recommend]
unsafe impl<M: RootModule + Copy + Send + Sync> Interface for M {
    type Kind = Raw;
    type Module = M;
    type Live = M;
    type Borrowed<'a> = M;

    fn name() -> String {
        M::NAME.to_owned()
    }

    unsafe fn accept(
        module: M,
        _: &dyn ImageMemory,
        _: Arc<dyn LeaseSource>,
    ) -> Result<(M, Option<String>), Refused> {
        Ok((module, None))
    }

    #[inline]
    fn as_interface(live: &M) -> &M {
        live
    }

    #[inline]
    fn borrow(live: &M) -> &M {
        live
    }
}

/// [`Interface::accept`] of a trait.
///
/// # Errors
///
/// Another interface or version, or a constructor that failed.
///
/// # Safety
///
/// The module's layout was checked. The result is used only while the image of the module is mapped and before the
/// plugin's hook ([`end`]) runs. This is called once for an image.
pub unsafe fn accept<I: Described + ?Sized>(
    module: PluginRootRef,
    memory: &dyn ImageMemory,
    leases: Arc<dyn LeaseSource>,
) -> Result<(Remote, Option<String>), Refused> {
    let expected = describe::<I>();
    // SAFETY: by its documentation, the entry does not use `this`, takes no arguments and returns bytes. Its image is
    // mapped (`# Safety` of this function).
    let bytes = unsafe { call_entry::<_, Vec<u8>>(module.describe(), ptr::null(), &Nil, &None) };
    let bytes = bytes.map_err(|_| DAMAGED.to_owned());
    let found = bytes.and_then(|it| Description::from_bytes(&it));
    let found = found.map_err(Refused::Layout)?;
    if expected.name != found.name {
        let difference = format!(
            "another interface: expected {}, found {}",
            expected.name, found.name
        );
        return Err(Refused::Layout(difference));
    }
    let accepted = compatible_versions(&expected.version);
    if accepted != compatible_versions(&found.version) {
        return Err(Refused::Version {
            interface: expected.name,
            expected: accepted,
            found: found.version,
        });
    }
    compare(&expected, &found).map_err(|difference| Refused::Layout(difference.to_string()))?;
    let made = {
        let is_calling = calling::is_calling as IsCalling;
        // SAFETY: by its documentation, the entry does not use `this`. `Exported::create` takes an `IsCalling` and
        // returns this type, in every version of the root module with this layout. Its image is mapped (`# Safety` of
        // this function).
        unsafe {
            call_entry::<_, Result<RawRemote, String>>(
                module.create(),
                ptr::null(),
                &is_calling,
                &None,
            )
        }
    };
    let made = made.map_err(|fault| match fault {
        Fault::Panicked(text) => Refused::Panicked(text),
        other => Refused::Failed(other.to_string()),
    })?;
    let made = made.map_err(Refused::Failed)?;
    check_entries(&made, &found, memory)?;
    // SAFETY: the plugin has made this of its `Send` and `Sync` value and the vtable for it. The handle is
    // used only while the image is mapped, and before the hook drops the value (`# Safety` of this function).
    let remote = unsafe { Remote::new(made, Some(leases)) };
    Ok((remote, Some(found.version)))
}

/// Checks that there is an entry for each method of the description, and that each is code. In a damaged file they may
/// be anything.
fn check_entries(
    made: &RawRemote,
    description: &Description,
    memory: &dyn ImageMemory,
) -> Result<(), Refused> {
    let methods = description.methods();
    if made.count != methods.len() {
        let difference = format!(
            "its vtable is damaged: expected {} methods, found {}",
            methods.len(),
            made.count
        );
        return Err(Refused::Layout(difference));
    }
    for (number, method) in methods.iter().enumerate() {
        let mut entry = [0; size_of::<usize>()];
        let address = made.entries.wrapping_add(number).addr();
        if !memory.read(address, &mut entry) || !memory.is_code(usize::from_ne_bytes(entry)) {
            return Err(Refused::NotCode((*method).to_owned()));
        }
    }
    Ok(())
}

/// The versions that are compatible by cargo's rule: the same major version, and below 1.0 the same minor version too.
fn compatible_versions(version: &str) -> String {
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    match major {
        "0" => format!("0.{minor}.x"),
        major => format!("{major}.x"),
    }
}

/// Describes an interface.
fn describe<I: Described + ?Sized>() -> Description {
    let mut types = Types::default();
    let root = I::describe_interface(&mut types);
    types.finish(&name_of::<I>(), I::VERSION, root)
}

/// The name of an interface: its package and its trait.
pub fn name_of<I: Described + ?Sized>() -> String {
    format!("{}::{}", I::PACKAGE, I::NAME)
}

/// What a plugin exports.
pub const fn header<P: Plugin>() -> LibHeader {
    extern "C" fn root_module<P: Plugin>() -> RootModuleResult {
        abi_stable::library::__call_root_module_loader(|| export::<P>())
    }

    // SAFETY: the constructor returns the erased form of a `PluginRootRef`, as `from_constructor` of that type demands.
    unsafe { LibHeader::from_constructor::<PluginRootRef>(root_module::<P>, CheckTypeLayout::Yes) }
}

/// The root module of a plugin.
fn export<P: Plugin>() -> PluginRootRef {
    PluginRootRef(Exported::<P>::ROOT.static_as_prefix())
}

struct Exported<P>(PhantomData<P>);

impl<P: Plugin> Exported<P> {
    const ROOT: &'static WithMetadata<PluginRoot> = &WithMetadata::new(PluginRoot {
        describe: Self::describe,
        create: Self::create,
    });

    unsafe extern "C" fn describe(
        _: *const (),
        arguments: *const (),
        out: *mut (),
        reply: *const ReplyVtable,
    ) -> u32 {
        // SAFETY: the host calls this with the arguments of an entry that takes none and returns bytes.
        unsafe {
            dispatch::<NoValue, Nil, Vec<u8>>(NoValue::THIS, arguments, out, reply, |(), _, _| {
                Ok(describe::<P::Interface>().to_bytes())
            })
        }
    }

    unsafe extern "C" fn create(
        _: *const (),
        arguments: *const (),
        out: *mut (),
        reply: *const ReplyVtable,
    ) -> u32 {
        // SAFETY: the host calls this with the arguments of an entry that takes an `IsCalling` and returns a handle.
        unsafe {
            dispatch::<NoValue, IsCalling, Result<RawRemote, String>>(
                NoValue::THIS,
                arguments,
                out,
                reply,
                |(), is_calling, _| {
                    note_panics_of_calls(is_calling);
                    Ok(P::make().and_then(|value| {
                        runtime::start(P::runtime())?;
                        Ok(P::slot().set::<P>(value))
                    }))
                },
            )
        }
    }
}

impl<T> ValueSlot<T> {
    /// An empty slot.
    #[expect(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Self {
        Self {
            value: UnsafeCell::new(None),
            is_taken: AtomicBool::new(false),
        }
    }

    fn set<P: Plugin>(&self, value: T) -> RawRemote
    where
        P::Interface: Dispatch<RootValue<T>>,
    {
        // Relaxed: nothing is read because of it.
        let is_taken = self.is_taken.swap(true, Ordering::Relaxed);
        assert!(!is_taken, "a plugin is made once");
        // SAFETY: only this call has set `is_taken`, so nobody else writes, and nobody has the address yet.
        let slot = unsafe { &mut *self.value.get() };
        let value = ptr::from_ref(slot.insert(RootValue(value)));
        let entries = <P::Interface as Dispatch<RootValue<T>>>::VTABLE;
        RawRemote {
            this: value.cast(),
            entries: entries.as_ptr(),
            count: entries.len(),
        }
    }
}

impl<T> DispatchTarget for RootValue<T> {
    #[inline]
    fn leases(&self) -> &Leases {
        &None
    }
}

impl<T> Deref for RootValue<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

// SAFETY: it is its own view: addresses and a number, in `repr(C)`. Only entries of the side that made it use the
// address.
#[diagnostic::do_not_recommend]
unsafe impl ByValue for RawRemote {
    type View = Self;
    type Outgoing = Self;
    type VecView = IndirectSlice<Self>;

    fn into_outgoing(self, _: &Leases) -> Self {
        self
    }

    fn view_outgoing(outgoing: &Self) -> Self {
        *outgoing
    }

    unsafe fn take(view: Self, _: ReadContext<'_>) -> Result<Self, ReadError> {
        Ok(view)
    }

    fn describe_value(types: &mut Types) -> TypeIndex {
        types.named_by_shape("remote", &[])
    }
}
