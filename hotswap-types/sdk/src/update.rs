//! What a plugin says when it is about to become the one that is called.

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

/// What should run, and which values there should be, from the moment on at which this plugin is the one that is
/// called. If it never is, nothing of this has happened.
///
/// What was said is visible at once to whoever asks further; services begin when the plugin is published. What is
/// not mentioned stays as it is: services keep running on the code that they began with, values keep their names.
///
/// A change *inside* a value that is shared, through an atomic or a [`Lock`](crate::Lock), is no part of that. Others
/// see it at once, and it stays if the plugin is refused afterwards. So an update changes no shared value in place. It
/// gives the name to a new value ([`write_ref`](Self::write_ref), [`migrate_ref`](Self::migrate_ref)), or leaves the
/// change to a service, which does not run before the plugin is published:
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
/// Every method gives a text when it cannot do what is asked; hand that on with `?`, and the plugin is refused
/// with it.
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

/// A plugin's update, as the host finds it.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct UpdateFn(extern "C" fn(&mut Update<'_>) -> RResult<(), Fault>);

impl UpdateFn {
    /// What [`update`](macro@crate::update) exports.
    pub const fn new(function: extern "C" fn(&mut Update<'_>) -> RResult<(), Fault>) -> Self {
        Self(function)
    }

    /// Runs it.
    pub fn run(self, host: &mut impl Host) -> Result<(), Fault> {
        (self.0)(&mut Update::new(host)).into_result()
    }
}

impl Update<'_> {
    /// Starts the service `name`, unless it is running: then it is left alone, on the code that it began with. A
    /// service that has ended is started again, on this code.
    ///
    /// It gets a thread of its name, and keeps this plugin mapped for as long as it runs.
    ///
    /// # Errors
    ///
    /// There can be no thread.
    pub fn start<F, R>(&mut self, name: &str, service: F) -> Result<(), String>
    where
        F: FnMut(&Stop) -> R + Send + 'static,
        R: Outcome,
    {
        self.start_again(name, RestartPolicy::Never, service)
    }

    /// Like [`start`](Self::start), and says what to do when it ends.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_again<F, R>(
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

    /// Starts the service `name` on this code, in place of the one of that name that may be running: that one is
    /// asked to stop, and this one begins when it has ended.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart<F, R>(&mut self, name: &str, service: F) -> Result<(), String>
    where
        F: FnMut(&Stop) -> R + Send + 'static,
        R: Outcome,
    {
        self.restart_again(name, RestartPolicy::Never, service)
    }

    /// Like [`restart`](Self::restart), and says what to do when it ends.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart_again<F, R>(
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

    /// The value `name`; if there is none, `init` makes it.
    ///
    /// Plain data (numbers, atomics, and arrays, structs and enums of those, without destructors; a
    /// [`Lock`](crate::Lock) of plain data, too) is kept in the host's memory. Other values keep the plugin that has
    /// made them mapped for as long as they are there. They are made of plain data, `RString`, `RVec`, `RBox` and
    /// `RHashMap`: what may leave the value together with code of its plugin (references, `RStr`, `RArc`, function
    /// pointers, objects of traits, `RMutex`) is refused.
    ///
    /// Two types are the same if they have the same name, package, parts and representation, the same constant
    /// parameters (by their values, as `Debug` writes them) and marker types (those of `PhantomData`, too), and the
    /// same `#[sabi(tag)]` and `#[sabi(extra_checks)]`. Of extra checks what their `Debug` writes is compared; the
    /// checks are not run, for the code of those of the value may have left.
    ///
    /// What is done to the value through the share, others see at once, also if this plugin is refused afterwards
    /// ([`Update`]).
    ///
    /// # Errors
    ///
    /// There is a value of this name and another type; nothing of it is read. The text names the type that is
    /// *expected*, which is `T`, and the one that was *found*, which is that of the value. Or the type is one of those
    /// that are refused.
    pub fn create_ref<T>(&mut self, name: &str, init: impl FnOnce() -> T) -> Result<Ref<T>, String>
    where
        T: StableAbi + Send + Sync + 'static,
    {
        match self.find(name)? {
            Some(found) => Ok(found),
            None => self.put(name, init()),
        }
    }

    /// Gives the name to a new value. Those who have a share of the one before keep that.
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

    /// Takes the name from the value or the channel that has it, if there is one. Those who have a share keep
    /// that.
    pub fn delete_ref(&mut self, name: &str) {
        // SAFETY: the functions and the host were put together by `new`.
        unsafe { (self.delete)(self.host, name.into()) }
    }

    /// Takes a value of the type `Old` to one of the type `New`. Does nothing if there is no value of this name, or
    /// if it is of the type `New` already; so it can stand in front of a [`create_ref`](Self::create_ref) for as
    /// long as one likes.
    ///
    /// Whoever has a share of the old value keeps that, and does not see what is written to the new one.
    ///
    /// A type is recognised by its own name and all that it is made of; so an old one is kept under its name in a
    /// module of its own.
    ///
    /// While the plugin is on probation, the host keeps the old value, and a rollback gives its name back to it: what
    /// was written to the new value is lost then. Without a probation, or after it, there is no way back to a plugin
    /// that does not know the new type: its own update is refused.
    ///
    /// # Errors
    ///
    /// The value is of neither type, or `migrate` gives an error. The old value stays.
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

    /// The channel `name`; if there is none, one with room for `capacity` values. `T` is plain data (see
    /// [`create_ref`](Self::create_ref)). [`delete_ref`](Self::delete_ref) takes its name from it.
    ///
    /// # Errors
    ///
    /// There is something else of this name, `T` is not plain, or `capacity` is more than 1,048,576.
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

/// What [`update`](macro@crate::update) exports calls this with the plugin's function.
#[doc(hidden)]
pub fn run(
    function: fn(&mut Update<'_>) -> Result<(), String>,
    update: &mut Update<'_>,
) -> RResult<(), Fault> {
    caught(|| function(update).map(|()| String::new())).map(|_| ())
}

/// Exports a function of the plugin as what the host runs when the plugin is about to become the one that is
/// called. One line, at the top of the plugin.
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
