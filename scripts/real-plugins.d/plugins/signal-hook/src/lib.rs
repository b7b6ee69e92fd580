//! A flag that SIGUSR1 sets. Before it is unloaded, the plugin takes back what it can; signal-hook's own handler stays
//! installed.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

use signal_hook::{SigId, consts::SIGUSR1, flag};

#[cfg(feature = "unloadable")]
hotswap_unload::unloadable!(before_unload = stop);
support::plugin!(work);

static REGISTERED: LazyLock<Result<SigId, String>> =
    LazyLock::new(|| flag::register(SIGUSR1, Arc::clone(&SEEN)).map_err(|error| error.to_string()));
static SEEN: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

fn work(text: &str) -> Result<String, String> {
    REGISTERED.clone()?;
    Ok(format!("{} {text}", SEEN.load(Ordering::Relaxed)))
}

#[cfg(feature = "unloadable")]
fn stop() {
    if let Ok(id) = *REGISTERED {
        signal_hook::low_level::unregister(id);
    }
}
