//! A handler of Ctrl-C: SIGINT's disposition, and a thread that waits for it and never ends.

use std::sync::{
    LazyLock,
    atomic::{AtomicBool, Ordering},
};

#[cfg(feature = "unloadable")]
hotswap_unload::unloadable!();
support::plugin!(work);

static HANDLER: LazyLock<Result<(), String>> = LazyLock::new(|| {
    ctrlc::set_handler(|| SEEN.store(true, Ordering::Relaxed)).map_err(|error| error.to_string())
});
static SEEN: AtomicBool = AtomicBool::new(false);

fn work(text: &str) -> Result<String, String> {
    HANDLER.clone()?;
    Ok(format!("{} {text}", SEEN.load(Ordering::Relaxed)))
}
