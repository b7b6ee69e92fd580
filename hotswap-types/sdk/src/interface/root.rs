//! How a host makes a plugin's value: it checks the root module, compares the descriptions of both sides, and calls the
//! constructor.

use std::{ops::Deref, ptr, slice, sync::Arc};

use abi_stable::{
    StableAbi, library::RootModule, package_version_strings, sabi_types::VersionStrings,
};

use super::{
    by_value::ByValue,
    bytes::DAMAGED,
    call::{Dispatch, Nil, RawRemote, Remote, ReplyVtable, call_entry},
    compare::compare,
    constructor::Offered,
    data::{ReadContext, ReadError},
    described::{Described, describe},
    description::{Description, TypeIndex, Types},
    fault::FaultKind,
    host_services::{HostServices, LentService},
    object::{DispatchTarget, LeaseSource, Leases, RawObject, drop_quietly},
    refused::{Refused, check_version},
    requirement::PluginDescription,
    sequences::IndirectSlice,
};
use crate::{calling, config::Config, fault::IsCalling, logs::LogHandle};

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

    /// Checks the rest of the module, and makes the plugin's value, whose methods must be code in `memory`. Also
    /// returns the version of the interface that the plugin was built with, if that differs from the version in the
    /// module's header.
    ///
    /// # Errors
    ///
    /// Another interface or version, or a constructor that failed.
    ///
    /// # Safety
    ///
    /// The module's layout was checked to be that of `Module`. The result is used only while the image of the module is
    /// mapped and before the plugin's hook ([`end`](super::end)) runs. The handle in `offer` was made for that image.
    /// This is called once for an image.
    unsafe fn accept(
        module: Self::Module,
        memory: &dyn ImageMemory,
        offer: Offer<'_>,
    ) -> Result<(Self::Live, Option<String>), Refused>;

    /// What a trial's probe gets.
    fn as_interface(live: &Self::Live) -> &Self;

    /// What a call gets.
    fn borrow(live: &Self::Live) -> &Self::Borrowed<'_>;
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

/// What a host offers a plugin when it makes the plugin's value.
pub struct Offer<'a> {
    /// The services that its constructor can take.
    pub services: &'a HostServices,
    /// Its configuration.
    pub config: &'a Config,
    /// Where the objects that it makes get their leases.
    pub leases: Arc<dyn LeaseSource>,
    /// Keeps what it was lent until its image is gone. Called once, before the constructor.
    pub keep: &'a dyn Fn(Vec<LentService>),
    /// What it logs to.
    pub logs: LogHandle,
}

/// The argument of [`create`](PluginRoot::create). A plugin of the first format reads only `is_calling`, which
/// therefore is the first field.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct CreateArguments {
    pub(super) is_calling: IsCalling,
    config: *const u8,
    config_bytes: usize,
    services: *const RawObject,
    service_count: usize,
}

/// The kind of an interface that is a trait.
#[derive(Debug)]
pub enum Trait {}

/// The kind of an interface that is an abi_stable root module.
#[derive(Debug)]
pub enum Raw {}

/// What every plugin with [`#[plugin]`](macro@crate::plugin) exports.
#[derive(StableAbi)]
#[repr(C)]
#[sabi(kind(Prefix(prefix_ref = PluginRootRef)))]
#[sabi(missing_field(panic))]
pub struct PluginRoot {
    /// An [`Entry`](super::Entry) that returns the description of the plugin, as bytes. It does not use `this`.
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
    /// Says what the plugin logs to: the parts of a [`LogHandle`]. Called once, before its value is made. A plugin that
    /// was built with an earlier sdk lacks it, and does not log.
    #[sabi(missing_field(option))]
    pub log_to: unsafe extern "C" fn(this: *const (), table: *const ()),
}

/// A plugin's value, or one of the host's own, as the target of its vtable.
#[derive(Debug)]
pub struct RootValue<T>(pub(super) T);

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
        _: Offer<'_>,
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
/// plugin's hook ([`end`](super::end)) runs. The handle in `offer` was made for that image. This is called once for an
/// image.
pub unsafe fn accept<I: Described + ?Sized>(
    module: PluginRootRef,
    memory: &dyn ImageMemory,
    offer: Offer<'_>,
) -> Result<(Remote, Option<String>), Refused> {
    let expected = describe::<I>();
    // SAFETY: by its documentation, the entry does not use `this`, takes no arguments and returns bytes. Its image is
    // mapped (`# Safety` of this function).
    let bytes = unsafe { call_entry::<_, Vec<u8>>(module.describe(), ptr::null(), &Nil, &None) };
    let bytes = bytes.map_err(|_| DAMAGED.to_owned());
    let found = bytes.and_then(|it| PluginDescription::from_bytes(&it));
    let PluginDescription {
        interface: found,
        requirements,
    } = found.map_err(Refused::Layout)?;
    if expected.name != found.name {
        let difference = format!(
            "another interface: expected {}, found {}",
            expected.name, found.name
        );
        return Err(Refused::Layout(difference));
    }
    check_version(&expected, &found)?;
    compare(&expected, &found).map_err(|difference| Refused::Layout(difference.to_string()))?;
    let (services, lent) = offer.services.lend(&requirements, &offer.leases)?;
    (offer.keep)(lent);
    if let Some(log_to) = module.log_to() {
        let (this, table) = offer.logs.parts();
        // SAFETY: these are the parts of a handle that was made for this image, which is mapped (`# Safety` of this
        // function).
        unsafe { log_to(this, table) };
    }
    let made = {
        let arguments = CreateArguments::new(offer.config, &services);
        // SAFETY: by its documentation, the entry does not use `this`. It takes `CreateArguments`, or the beginning of
        // them, and returns this type, in every plugin whose format of descriptions is read. Its image is mapped
        // (`# Safety` of this function).
        unsafe {
            call_entry::<_, Result<RawRemote, String>>(
                module.create(),
                ptr::null(),
                &arguments,
                &None,
            )
        }
    };
    let made = made.map_err(|fault| match fault.kind {
        FaultKind::Panicked(text) => Refused::Panicked(text),
        other => Refused::Failed(other.to_string()),
    })?;
    let made = made.map_err(Refused::Failed)?;
    check_entries(&made, &found, memory)?;
    // SAFETY: the plugin has made this of its `Send` and `Sync` value and the vtable for it. The handle is
    // used only while the image is mapped, and before the hook drops the value (`# Safety` of this function).
    let remote = unsafe { Remote::new(made, Some(offer.leases)) };
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

impl CreateArguments {
    fn new(config: &Config, services: &[RawObject]) -> Self {
        Self {
            is_calling: calling::is_calling,
            config: config.bytes().as_ptr(),
            config_bytes: config.bytes().len(),
            services: services.as_ptr(),
            service_count: services.len(),
        }
    }

    /// # Safety
    ///
    /// This is from [`new`](Self::new) on the other side, where configuration and services stay unchanged during `'a`.
    /// `services` has a handle for each requirement of the constructor, in their order. Its interface was compared with
    /// the required one, and it is valid until the image is gone; or it is null, and not needed.
    pub(super) unsafe fn offered<'a>(self) -> Offered<'a> {
        // SAFETY: address and length are from a slice that stays unchanged during `'a` (`# Safety` of this function).
        let config = unsafe { slice::from_raw_parts(self.config, self.config_bytes) };
        // SAFETY: address and count are from a slice of handles that stays unchanged during `'a` (`# Safety` of this
        // function).
        let services = unsafe { slice::from_raw_parts(self.services, self.service_count) };
        // SAFETY: there is a handle for each requirement of the constructor, in their order. Its interface was
        // compared, and it is valid until the image is gone; or it is null, and not needed (`# Safety` of this
        // function).
        unsafe { Offered::new(config, services) }
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
