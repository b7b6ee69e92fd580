//! How a plugin is told apart, asked what it is, and made.

use std::{
    marker::PhantomData,
    ops::Deref,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicPtr, Ordering},
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
    call::{Dispatch, Nil, RawRemote, Remote, ReplyVtable, call_entry, catch, dispatch},
    compare::compare,
    data::{ReadContext, ReadError},
    description::{Description, TypeIndex, Types},
    fault::Fault,
    object::{DispatchTarget, LeaseSource, Leases, RawObject},
};
use crate::{
    calling,
    fault::{IsCalling, note_panics_of_calls},
};

/// What a swap point can be of: a trait with [`#[interface]`](macro@crate::interface) (`dyn Trait`), or an abi_stable root
/// module.
///
/// # Safety
///
/// For `dyn Trait`, it is written by the macro.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an interface",
    label = "neither `dyn` of a trait with `#[interface]` nor an abi_stable root module",
    note = "mark the trait with `#[hotswap_sdk::interface]`"
)]
pub unsafe trait Interface {
    /// [`Trait`] or [`Raw`].
    type Kind;
    /// What the file exports.
    type Module: RootModule + Copy + Send + Sync + 'static;
    /// What a generation keeps: by this the value is called.
    type Live: Send + Sync + 'static;

    /// How it is called in texts.
    fn name() -> String;

    /// Finishes the check of a module, and makes the plugin's value. Also gives the version that the plugin was built
    /// with, if the module knows better than its header. `leases` is for objects that the plugin makes.
    ///
    /// # Errors
    ///
    /// It cannot be used.
    ///
    /// # Safety
    ///
    /// The module's layout was checked. It is used only while its image is mapped, and once.
    unsafe fn accept(
        module: Self::Module,
        leases: Arc<dyn LeaseSource>,
    ) -> Result<(Self::Live, Option<String>), Refused>;

    /// What callers see.
    fn as_interface(live: &Self::Live) -> &Self;
}

/// A trait, as `#[interface]` describes it.
///
/// # Safety
///
/// It is described as it is.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an interface",
    label = "not an interface",
    note = "mark the trait with `#[hotswap_sdk::interface]`"
)]
pub unsafe trait Described: 'static {
    /// The package.
    const PACKAGE: &'static str;
    /// The trait.
    const NAME: &'static str;
    /// The version of the package.
    const VERSION: &'static str;

    /// Describes its methods.
    fn describe_interface(types: &mut Types) -> TypeIndex;
}

/// A trait of which the host itself may have a value; written by `#[interface]`.
///
/// # Safety
///
/// As for [`Interface`].
#[diagnostic::on_unimplemented(
    message = "`{T}` does not implement the interface",
    label = "does not implement it"
)]
pub unsafe trait BuiltIn<T>: Interface {
    /// What a generation keeps of it.
    fn built_in(value: T, leases: Arc<dyn LeaseSource>) -> Self::Live;
}

/// [`BuiltIn::built_in`].
pub fn built_in<I, T>(value: T, leases: Arc<dyn LeaseSource>) -> Remote
where
    I: Dispatch<RootValue<T>> + ?Sized,
    T: Send + Sync + 'static,
{
    unsafe extern "C" fn drop_value<T>(this: *const ()) {
        // SAFETY: the address of the value, given back once.
        let value = unsafe { Box::from_raw(this.cast_mut().cast::<RootValue<T>>()) };
        // A panic of a destructor has no caller.
        drop(catch(|| {
            drop(value);
            Ok(())
        }));
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
    // SAFETY: the value and the entries for it, whose code is the host's own.
    unsafe { Remote::object(raw, Some(leases), None) }
}

/// The kind of a trait.
#[derive(Debug)]
pub enum Trait {}

/// The kind of a root module that is used as it is.
#[derive(Debug)]
pub enum Raw {}

/// Why a plugin cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was built with another version of the interface.
    Version {
        /// Which.
        interface: String,
        /// Those that go.
        expected: String,
        /// The plugin's.
        found: String,
    },
    /// Its interface or a type is another one: where, what was expected, and what was found.
    Layout(String),
    /// Its constructor has failed, with this text.
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
    /// Gives the description of its interface.
    pub describe: unsafe extern "C" fn(
        this: *const (),
        arguments: *const (),
        out: *mut (),
        reply: *const ReplyVtable,
    ) -> u32,
    /// Makes the plugin's value. Once.
    #[sabi(last_prefix_field)]
    pub create: unsafe extern "C" fn(
        this: *const (),
        arguments: *const (),
        out: *mut (),
        reply: *const ReplyVtable,
    ) -> u32,
}

/// What [`#[plugin]`](macro@crate::plugin) makes of a type.
pub trait Plugin: Sized + 'static {
    /// What it implements.
    type Interface: ?Sized + Described + Dispatch<RootValue<Self>>;

    /// Makes the value.
    ///
    /// # Errors
    ///
    /// The plugin's own.
    fn make() -> Result<Self, String>;

    /// Where the value is kept.
    fn slot() -> &'static ValueSlot<Self>;

    /// Runs when nobody uses the plugin any more, or when it was refused.
    fn before_unload();
}

/// What the entries of a plugin's value are for.
#[derive(Debug)]
pub struct RootValue<T>(T);

/// Where a plugin keeps its value, from when it is made until the plugin is retired.
///
/// # Invariants
///
/// The pointer is null, or from `Box::into_raw`.
#[derive(Debug)]
pub struct ValueSlot<T> {
    value: AtomicPtr<RootValue<T>>,
    // Shareable as it is, for whatever an interface is served by is.
    marker: PhantomData<fn() -> T>,
}

impl RootModule for PluginRootRef {
    abi_stable::declare_root_module_statics! {PluginRootRef}

    const BASE_NAME: &'static str = "plugin";
    const NAME: &'static str = "hotswap-sdk";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

// SAFETY: a root module is what it is, and lent as that.
unsafe impl<M: RootModule + Copy + Send + Sync> Interface for M {
    type Kind = Raw;
    type Module = M;
    type Live = M;

    fn name() -> String {
        M::NAME.to_owned()
    }

    unsafe fn accept(module: M, _: Arc<dyn LeaseSource>) -> Result<(M, Option<String>), Refused> {
        Ok((module, None))
    }

    #[inline]
    fn as_interface(live: &M) -> &M {
        live
    }
}

/// [`Interface::accept`] of a trait.
///
/// # Errors
///
/// As there.
///
/// # Safety
///
/// As there.
pub unsafe fn accept<I: Described + ?Sized>(
    module: PluginRootRef,
    leases: Arc<dyn LeaseSource>,
) -> Result<(Remote, Option<String>), Refused> {
    let expected = describe::<I>();
    // SAFETY: `describe` takes nothing and gives bytes.
    let bytes = unsafe { call_entry::<_, Vec<u8>>(module.describe(), ptr::null(), &Nil, &None) };
    let found = bytes.ok().and_then(|it| Description::from_bytes(&it));
    let found = found.ok_or_else(|| Refused::Layout("its description is damaged".to_owned()))?;
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
        // SAFETY: `create` takes and gives this.
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
    // SAFETY: the descriptions agree, and a plugin makes it of its value and the entries for that.
    Ok((
        unsafe { Remote::new(made, Some(leases)) },
        Some(found.version),
    ))
}

/// As for a package of cargo: the same major version, below 1.0 the same minor version too.
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

/// The package and the trait.
pub fn name_of<I: Described + ?Sized>() -> String {
    format!("{}::{}", I::PACKAGE, I::NAME)
}

/// What a plugin exports.
pub const fn header<P: Plugin>() -> LibHeader {
    extern "C" fn root_module<P: Plugin>() -> RootModuleResult {
        abi_stable::library::__call_root_module_loader(|| export::<P>())
    }

    // SAFETY: the function gives a `PluginRootRef`.
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
        // SAFETY: an entry that gives bytes. The value is none.
        unsafe {
            dispatch::<RootValue<()>, Nil, Vec<u8>>(
                (&raw const NOTHING).cast(),
                arguments,
                out,
                reply,
                |(), _, _| Ok(describe::<P::Interface>().to_bytes()),
            )
        }
    }

    unsafe extern "C" fn create(
        _: *const (),
        arguments: *const (),
        out: *mut (),
        reply: *const ReplyVtable,
    ) -> u32 {
        // SAFETY: an entry that gives this. The value is none.
        unsafe {
            dispatch::<RootValue<()>, IsCalling, Result<RawRemote, String>>(
                (&raw const NOTHING).cast(),
                arguments,
                out,
                reply,
                |(), is_calling, _| {
                    note_panics_of_calls(is_calling);
                    Ok(P::make().map(|value| P::slot().set::<P>(value)))
                },
            )
        }
    }
}

static NOTHING: RootValue<()> = RootValue(());

impl<T> ValueSlot<T> {
    /// Without a value.
    #[expect(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Self {
        Self {
            value: AtomicPtr::new(ptr::null_mut()),
            marker: PhantomData,
        }
    }

    fn set<P: Plugin>(&self, value: T) -> RawRemote
    where
        P::Interface: Dispatch<RootValue<T>>,
    {
        let value = Box::into_raw(Box::new(RootValue(value)));
        // Release: pairs with the Acquire in `clear`.
        let before = self.value.swap(value, Ordering::AcqRel);
        debug_assert!(before.is_null(), "a plugin is made once");
        let entries = <P::Interface as Dispatch<RootValue<T>>>::VTABLE;
        RawRemote {
            this: value.cast_const().cast(),
            entries: entries.as_ptr(),
            count: entries.len(),
        }
    }

    /// Drops the value, if there is one. Called when nobody uses the plugin any more.
    pub fn clear(&self) {
        // Acquire: pairs with the Release in `set`.
        let value = self.value.swap(ptr::null_mut(), Ordering::AcqRel);
        if let Some(value) = NonNull::new(value) {
            // SAFETY: the invariant; taking it out has made it ours, and nobody is inside of it any more.
            drop(unsafe { Box::from_raw(value.as_ptr()) });
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

// SAFETY: addresses, which only their own side uses.
unsafe impl ByValue for RawRemote {
    type View = Self;
    type Outgoing = Self;

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
