//! A plugin with a library of its own, whose thread calls the plugin back for as long as it runs: until the process
//! ends, or, with the feature `vouched`, until the plugin is retired. No host can see which it is.

use std::{
    ffi::c_void,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

#[cfg(all(feature = "unloadable", not(feature = "vouched")))]
hotswap_unload::unloadable!();
#[cfg(all(feature = "unloadable", feature = "vouched"))]
hotswap_unload::unloadable!(before_unload = stop, vouch("libhelper"));
support::plugin!(work);

static HELPER: OnceLock<Helper> = OnceLock::new();
static CALLBACKS: AtomicU64 = AtomicU64::new(0);

/// What `helper_start` has given.
struct Helper(*mut c_void);

// SAFETY: the library has locks of its own.
unsafe impl Send for Helper {}
// SAFETY: nothing is read through the pointer here, and the library has locks of its own.
unsafe impl Sync for Helper {}

fn work(text: &str) -> Result<String, String> {
    // SAFETY: the callback may be called on any thread, at any time while this image is mapped.
    let helper = HELPER.get_or_init(|| Helper(unsafe { helper_sys::helper_start(callback) }));
    if helper.0.is_null() {
        return Err("the library has no thread".to_owned());
    }
    Ok(format!(
        "{} callbacks before {text}",
        CALLBACKS.load(Ordering::Relaxed)
    ))
}

#[cfg(all(feature = "unloadable", feature = "vouched"))]
fn stop() {
    if let Some(helper) = HELPER.get().filter(|helper| !helper.0.is_null()) {
        // SAFETY: it was started, and is stopped once: the host calls this once, when it calls nothing else any more.
        unsafe { helper_sys::helper_stop(helper.0) };
    }
}

extern "C" fn callback() {
    CALLBACKS.fetch_add(1, Ordering::Relaxed);
}
