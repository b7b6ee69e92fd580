//! `Update`, with which a plugin says which services and values there should be when it is published.

mod table;

use std::marker::PhantomData;

use abi_stable::{
    StableAbi,
    std_types::{ROption, RResult, RStr, RString},
};

pub use self::table::{Host, Values};
use crate::{
    Channel, Fault, Outcome, Ref, RestartPolicy, Stop, caught,
    channel::ChannelHandle,
    refs::{Parcel, RawRef, TypeInfo},
    service::Body,
};

/// The changes to services and values that a plugin asks for, which take effect when the plugin is published. If it is
/// refused, none of them takes effect.
///
/// Later calls on the same `Update` already find the changes. Services begin when the plugin is published. What an
/// update does not mention stays as it is: services keep running the code that they were started with, and values keep
/// their names.
///
/// A change *inside* a shared value, through an atomic or a [`Lock`](crate::Lock), is not one of these changes. Others
/// see it at once, and it stays if the plugin is refused. So an update should not change a shared value in place.
/// Instead, give the name to a new value ([`write_ref`](Self::write_ref), [`migrate_ref`](Self::migrate_ref)), or let a
/// service make the change, since services do not run before the plugin is published:
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use hotswap_sdk::{Stop, Update};
///
/// fn update(update: &mut Update<'_>) -> Result<(), String> {
///     // Not `limit.store(200, …)` on a value that others have.
///     update.write_ref("limit", AtomicU64::new(200))?;
///
///     let visits = update.create_ref("visits", || AtomicU64::new(0))?;
///     update.restart("visits from 0", move |_: &Stop| visits.store(0, Ordering::Relaxed))
/// }
/// # hotswap_sdk::update!(update);
/// ```
///
/// The methods return a text if they fail. Return it with `?`, and the plugin is refused for that reason.
#[repr(C)]
#[derive(StableAbi)]
pub struct Update<'a> {
    host: *mut (),
    start:
        unsafe extern "C" fn(*mut (), RStr<'_>, RestartPolicy, bool, Body) -> RResult<(), RString>,
    stop: unsafe extern "C" fn(*mut (), RStr<'_>),
    find: unsafe extern "C" fn(*mut (), RStr<'_>, &TypeInfo) -> RResult<ROption<RawRef>, RString>,
    put: unsafe extern "C" fn(*mut (), RStr<'_>, &TypeInfo, Parcel) -> RResult<RawRef, RString>,
    delete: unsafe extern "C" fn(*mut (), RStr<'_>),
    channel: unsafe extern "C" fn(
        *mut (),
        RStr<'_>,
        &TypeInfo,
        usize,
    ) -> RResult<ChannelHandle, RString>,
    borrow: PhantomData<&'a mut ()>,
}

/// A plugin's update function, as the host finds it.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct UpdateFn(extern "C" fn(&mut Update<'_>) -> RResult<(), Fault>);

impl UpdateFn {
    /// The function that [`update`](macro@crate::update) exports.
    pub const fn new(function: extern "C" fn(&mut Update<'_>) -> RResult<(), Fault>) -> Self {
        Self(function)
    }

    /// Runs the function.
    pub fn run(self, host: &mut impl Host) -> Result<(), Fault> {
        (self.0)(&mut Update::new(host)).into_result()
    }
}

impl Update<'_> {
    /// Starts the service `name` with this plugin's code, if no service of this name is running. A running one is left
    /// alone, with the code that it was started with.
    ///
    /// The service runs on a thread of its own with its name, and keeps this plugin mapped for as long as it runs.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start<F, R>(&mut self, name: &str, service: F) -> Result<(), String>
    where
        F: FnMut(&Stop) -> R + Send + 'static,
        R: Outcome,
    {
        self.start_with_policy(name, RestartPolicy::Never, service)
    }

    /// Like [`start`](Self::start), with a policy that says when the service is restarted after it has ended.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with_policy<F, R>(
        &mut self,
        name: &str,
        policy: RestartPolicy,
        service: F,
    ) -> Result<(), String>
    where
        F: FnMut(&Stop) -> R + Send + 'static,
        R: Outcome,
    {
        self.run(name, policy, false, Body::new(service))
    }

    /// Starts the service `name` with this plugin's code. If one of this name is running, it is asked to stop, and the
    /// new one begins when it has ended.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart<F, R>(&mut self, name: &str, service: F) -> Result<(), String>
    where
        F: FnMut(&Stop) -> R + Send + 'static,
        R: Outcome,
    {
        self.restart_with_policy(name, RestartPolicy::Never, service)
    }

    /// Like [`restart`](Self::restart), with a policy that says when the service is restarted after it has ended.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart_with_policy<F, R>(
        &mut self,
        name: &str,
        policy: RestartPolicy,
        service: F,
    ) -> Result<(), String>
    where
        F: FnMut(&Stop) -> R + Send + 'static,
        R: Outcome,
    {
        self.run(name, policy, true, Body::new(service))
    }

    fn run(
        &mut self,
        name: &str,
        policy: RestartPolicy,
        restart: bool,
        body: Body,
    ) -> Result<(), String> {
        // SAFETY: the functions and the host were put together by `new`.
        let started = unsafe { (self.start)(self.host, name.into(), policy, restart, body) };
        started.into_result().map_err(String::from)
    }

    /// Asks the service `name` to stop, if it is running.
    pub fn stop(&mut self, name: &str) {
        // SAFETY: the functions and the host were put together by `new`.
        unsafe { (self.stop)(self.host, name.into()) }
    }

    /// Returns the value `name`. If there is none, `init` makes it.
    ///
    /// Plain data is kept in the host's memory: numbers, atomics, arrays, structs and enums of those without
    /// destructors, and a [`Lock`](crate::Lock) of plain data. Other values keep the plugin that made them mapped for
    /// as long as they exist. They may consist of plain data, `RString`, `RVec`, `RBox` and `RHashMap`. Types whose
    /// parts could be copied out of the value and still refer to the plugin are refused: references, `RStr`, `RArc`,
    /// function pointers, trait objects and `RMutex`.
    ///
    /// Two types are the same if they have the same name, package, fields and representation, the same const parameters
    /// (compared by their `Debug` output) and marker types (also those of `PhantomData`), and the same `#[sabi(tag)]`
    /// and `#[sabi(extra_checks)]`. Extra checks are compared by their `Debug` output. They are not run, because the
    /// code of those of the value may be unloaded.
    ///
    /// Others see a change through the returned `Ref` at once, even if this plugin is refused afterwards ([`Update`]).
    ///
    /// # Errors
    ///
    /// The existing value has another type; it is not read. The text names `T` as *expected*, and the type of the value
    /// as *found*. Or `T` is one of the types that are refused.
    pub fn create_ref<T>(&mut self, name: &str, init: impl FnOnce() -> T) -> Result<Ref<T>, String>
    where
        T: StableAbi + Send + Sync + 'static,
    {
        match self.find(name)? {
            Some(found) => Ok(found),
            None => self.put(name, init()),
        }
    }

    /// Gives the name to a new value. Existing `Ref`s of the previous value keep it.
    ///
    /// # Errors
    ///
    /// As [`create_ref`](Self::create_ref).
    pub fn write_ref<T>(&mut self, name: &str, value: T) -> Result<Ref<T>, String>
    where
        T: StableAbi + Send + Sync + 'static,
    {
        drop(self.find::<T>(name)?);
        self.put(name, value)
    }

    /// Removes the name of a value or a channel, if there is one. Existing `Ref`s and channels keep it.
    pub fn delete_ref(&mut self, name: &str) {
        // SAFETY: the functions and the host were put together by `new`.
        unsafe { (self.delete)(self.host, name.into()) }
    }

    /// Replaces the value `name` of type `Old` by one of type `New`, which `migrate` makes from it. Does nothing if
    /// there is no value of this name, or if it already has type `New`, so the call can stay in front of a
    /// [`create_ref`](Self::create_ref).
    ///
    /// Existing `Ref`s of the old value keep it, and do not see changes of the new one.
    ///
    /// A type is recognised by its name and its fields, so keep the old type under its name, in a module of its own.
    ///
    /// While the plugin is on probation, the host keeps the old value. A rollback gives it its name back; what was
    /// written to the new value is then lost. Without a probation, or after it, a plugin that does not know the new
    /// type cannot come back: its update is refused.
    ///
    /// # Errors
    ///
    /// The value has neither type, or `migrate` returns an error. The old value stays.
    pub fn migrate_ref<Old, New>(
        &mut self,
        name: &str,
        migrate: impl FnOnce(&Old) -> Result<New, String>,
    ) -> Result<(), String>
    where
        Old: StableAbi + Send + Sync + 'static,
        New: StableAbi + Send + Sync + 'static,
    {
        if self.find::<New>(name).is_ok() {
            return Ok(());
        }
        if let Some(old) = self.find::<Old>(name)? {
            let new = migrate(&old).map_err(|error| format!("ref {name:?}: migration: {error}"))?;
            self.put(name, new)?;
        }
        Ok(())
    }

    /// Returns the channel `name`. If there is none, this creates one with room for `capacity` values. `T` must be
    /// plain data ([`create_ref`](Self::create_ref)). [`delete_ref`](Self::delete_ref) removes the name.
    ///
    /// # Errors
    ///
    /// The name belongs to a value, or to a channel of another type; `T` is not plain data; or `capacity` is more than
    /// 1,048,576.
    pub fn channel<T>(&mut self, name: &str, capacity: usize) -> Result<Channel<T>, String>
    where
        T: StableAbi + Send + 'static,
    {
        let info = TypeInfo::of::<T>();
        // SAFETY: the functions and the host were put together by `new`.
        let channel = unsafe { (self.channel)(self.host, name.into(), &info, capacity) };
        let channel = channel.into_result().map_err(String::from)?;
        // SAFETY: the host has compared the type, and looked whether it is plain.
        Ok(unsafe { Channel::new(channel) })
    }

    fn find<T: StableAbi>(&mut self, name: &str) -> Result<Option<Ref<T>>, String> {
        let info = TypeInfo::of::<T>();
        // SAFETY: the functions and the host were put together by `new`.
        let found = unsafe { (self.find)(self.host, name.into(), &info) };
        let found = found.into_result().map_err(String::from)?;
        // SAFETY: the host has compared the types.
        Ok(found.into_option().map(|found| unsafe { found.typed() }))
    }

    fn put<T>(&mut self, name: &str, value: T) -> Result<Ref<T>, String>
    where
        T: StableAbi + Send + Sync + 'static,
    {
        let (info, value) = (TypeInfo::of::<T>(), Parcel::new(value));
        // SAFETY: the functions and the host were put together by `new`.
        let put = unsafe { (self.put)(self.host, name.into(), &info, value) };
        let put = put.into_result().map_err(String::from)?;
        // SAFETY: it is the value just given.
        Ok(unsafe { put.typed() })
    }
}

impl std::fmt::Debug for Update<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Update").finish_non_exhaustive()
    }
}

/// The typed symbol that [`update`](macro@crate::update) exports, a [`UpdateFn`].
pub const SYMBOL: &str = "update";

/// Calls the plugin's function, for the function that [`update`](macro@crate::update) exports.
#[doc(hidden)]
pub fn run(
    function: fn(&mut Update<'_>) -> Result<(), String>,
    update: &mut Update<'_>,
) -> RResult<(), Fault> {
    caught(|| function(update).map(|()| String::new())).map(|_| ())
}

/// Exports a function of the plugin as its update. The host runs it just before it publishes the plugin. Write the
/// macro once, at the top of the plugin.
///
/// ```
/// fn update(update: &mut hotswap_sdk::Update<'_>) -> Result<(), String> {
///     update.stop("old service");
///     Ok(())
/// }
///
/// hotswap_sdk::update!(update);
/// ```
#[macro_export]
macro_rules! update {
    ($function:path) => {
        const _: () = {
            extern "C" fn exported(
                update: &mut $crate::Update<'_>,
            ) -> $crate::expansion::RResult<(), $crate::Fault> {
                $crate::expansion::run($function, update)
            }

            #[unsafe(export_name = "hotswap_symbol_update")]
            static EXPORT: $crate::expansion::TypedSymbol<$crate::UpdateFn> =
                $crate::expansion::TypedSymbol::new($crate::UpdateFn::new(exported));
        };
    };
}
