//! The host's side of an update, and the table by which a plugin calls it.

use std::{marker::PhantomData, ptr};

use abi_stable::std_types::{ROption, RResult, RStr, RString};

use super::Update;
use crate::{
    RestartPolicy,
    channel::ChannelHandle,
    refs::{Parcel, RawRef, TypeInfo},
    service::Body,
};

/// The host's side of an [`Update`].
pub trait Host {
    /// What keeps its values.
    type Values: Values;

    /// See [`Update::start_with_policy`] and, with `restart`, [`Update::restart_with_policy`].
    fn start(
        &mut self,
        name: &str,
        policy: RestartPolicy,
        restart: bool,
        body: Body,
    ) -> Result<(), String>;

    /// See [`Update::stop`].
    fn stop(&mut self, name: &str);

    /// What keeps its values.
    fn values(&mut self) -> &mut Self::Values;
}

/// The host's side of the values and channels.
///
/// # Safety
///
/// What is given for a type is of this type: [`find`](Self::find) gives a value, and [`channel`](Self::channel) a
/// channel that were made for one of the same layout, and nothing but plain data goes through a channel.
pub unsafe trait Values {
    /// The value of this name, if there is one. An error if it is of another type.
    fn find(&mut self, name: &str, asked: &TypeInfo) -> Result<Option<RawRef>, String>;

    /// Gives the name to a value, whatever had it.
    fn put(&mut self, name: &str, info: &TypeInfo, value: Parcel) -> Result<RawRef, String>;

    /// See [`Update::delete_ref`].
    fn delete(&mut self, name: &str);

    /// See [`Update::channel`].
    fn channel(
        &mut self,
        name: &str,
        asked: &TypeInfo,
        capacity: usize,
    ) -> Result<ChannelHandle, String>;
}

impl<'a> Update<'a> {
    pub(super) fn new<H: Host>(host: &'a mut H) -> Self {
        /// # Safety
        ///
        /// `host` is the `host` field of an `Update<'h>` that was made of an `H`, and is used by nobody else during
        /// `'h`.
        unsafe fn object<'h, H>(host: *mut ()) -> &'h mut H {
            // SAFETY: `host` points to an `H` that nobody else uses (`# Safety` of this function).
            unsafe { &mut *host.cast() }
        }

        unsafe extern "C" fn start<H: Host>(
            it: *mut (),
            name: RStr<'_>,
            policy: RestartPolicy,
            restart: bool,
            body: Body,
        ) -> RResult<(), RString> {
            // SAFETY: `Update` calls its functions with the host that they were made for.
            let started = unsafe { object::<H>(it) }.start(name.into(), policy, restart, body);
            started.map_err(RString::from).into()
        }

        unsafe extern "C" fn stop<H: Host>(it: *mut (), name: RStr<'_>) {
            // SAFETY: `Update` calls its functions with the host that they were made for.
            unsafe { object::<H>(it) }.stop(name.into());
        }

        unsafe extern "C" fn find<H: Host>(
            it: *mut (),
            name: RStr<'_>,
            asked: &TypeInfo,
        ) -> RResult<ROption<RawRef>, RString> {
            // SAFETY: `Update` calls its functions with the host that they were made for.
            let found = unsafe { object::<H>(it) }.values().find(name.into(), asked);
            found.map(ROption::from).map_err(RString::from).into()
        }

        unsafe extern "C" fn put<H: Host>(
            it: *mut (),
            name: RStr<'_>,
            info: &TypeInfo,
            value: Parcel,
        ) -> RResult<RawRef, RString> {
            // SAFETY: `Update` calls its functions with the host that they were made for.
            let put = unsafe { object::<H>(it) }
                .values()
                .put(name.into(), info, value);
            put.map_err(RString::from).into()
        }

        unsafe extern "C" fn delete<H: Host>(it: *mut (), name: RStr<'_>) {
            // SAFETY: `Update` calls its functions with the host that they were made for.
            unsafe { object::<H>(it) }.values().delete(name.into());
        }

        unsafe extern "C" fn channel<H: Host>(
            it: *mut (),
            name: RStr<'_>,
            asked: &TypeInfo,
            capacity: usize,
        ) -> RResult<ChannelHandle, RString> {
            // SAFETY: `Update` calls its functions with the host that they were made for.
            let channel = unsafe { object::<H>(it) }
                .values()
                .channel(name.into(), asked, capacity);
            channel.map_err(RString::from).into()
        }

        Self {
            host: ptr::from_mut(host).cast(),
            start: start::<H>,
            stop: stop::<H>,
            find: find::<H>,
            put: put::<H>,
            delete: delete::<H>,
            channel: channel::<H>,
            borrow: PhantomData,
        }
    }
}
