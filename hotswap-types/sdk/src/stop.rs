//! The token by which a service is asked to stop.

use std::{sync::Arc, time::Duration};

use abi_stable::{StableAbi, std_types::RDuration};

use crate::handle::Handle;

/// Says when a service is to stop. What waits with it is woken at once then.
///
/// A service that has slept for the last time, or was told so by a channel, returns:
///
/// ```
/// # use std::time::Duration;
/// # use hotswap_sdk::Stop;
/// fn ticker(stop: &Stop) {
///     while stop.sleep(Duration::from_millis(100)) {
///         // Something to be done now and then.
///     }
/// }
/// ```
///
/// Clone it for threads that the service starts and joins.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct Stop {
    token: Handle,
    is_set: unsafe extern "C" fn(*const ()) -> bool,
    sleep: unsafe extern "C" fn(*const (), RDuration) -> bool,
}

/// The host's side of a [`Stop`].
pub trait Token: Send + Sync + 'static {
    /// See [`Stop::is_set`].
    fn is_set(&self) -> bool;

    /// See [`Stop::sleep`].
    fn sleep(&self, time: Duration) -> bool;
}

impl Stop {
    /// Of the host's object.
    ///
    /// # Safety
    ///
    /// All that a plugin is given by one host are made of the same type, of which the host's channels know that.
    pub unsafe fn new<T: Token>(token: Arc<T>) -> Self {
        unsafe extern "C" fn is_set<T: Token>(token: *const ()) -> bool {
            // SAFETY: `Stop` calls its functions with the object that they were made for.
            unsafe { &*token.cast::<T>() }.is_set()
        }

        unsafe extern "C" fn sleep<T: Token>(token: *const (), time: RDuration) -> bool {
            // SAFETY: `Stop` calls its functions with the object that they were made for.
            unsafe { &*token.cast::<T>() }.sleep(time.into())
        }

        Self {
            token: Handle::new(token),
            is_set: is_set::<T>,
            sleep: sleep::<T>,
        }
    }

    /// Whether the service is to stop.
    pub fn is_set(&self) -> bool {
        // SAFETY: the function and the object were put together by `new`.
        unsafe { (self.is_set)(self.token.address()) }
    }

    /// Sleeps for `time`, or until the service is to stop. `true`: it goes on.
    pub fn sleep(&self, time: Duration) -> bool {
        // SAFETY: the function and the object were put together by `new`.
        unsafe { (self.sleep)(self.token.address(), time.into()) }
    }

    /// The host's object.
    pub fn token(&self) -> &Handle {
        &self.token
    }
}
