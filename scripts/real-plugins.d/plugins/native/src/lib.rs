//! C or C++ in a plugin: `native/` has a file for each case.

use std::ffi::c_long;

#[cfg(feature = "unloadable")]
hotswap_unload::unloadable!(before_unload = stop);
support::plugin!(work);

unsafe extern "C" {
    /// May be called on any thread.
    fn native_work(number: c_long) -> c_long;
    /// Called once, when nobody is in `native_work` any more.
    #[cfg(feature = "unloadable")]
    fn native_stop();
}

fn work(text: &str) -> Result<String, String> {
    // SAFETY: no conditions.
    let number = unsafe { native_work(text.len() as c_long) };
    Ok(format!("{number} {text}"))
}

#[cfg(feature = "unloadable")]
fn stop() {
    // SAFETY: called once, by the host, which calls nothing else then.
    unsafe { native_stop() }
}
