//! The smallest host: it calls a plugin, and swaps in each file whose path it is given.
//!
//! ```sh
//! cargo build && cargo run -p hotswap-core --example host -- target/debug/libplugin.so
//! ```
//!
//! Change what `some_fn` gives in `hotswap-plugin/src/code.rs`, run `cargo build` in another terminal, and type the
//! path again: the new code answers, and the old code is gone. An empty line only calls again. The end of the input
//! (Ctrl-D) ends the host.

use std::{env, io, time::Duration};

use anyhow::{Context, Result};
use hotswap_core::{Hotswap, Policy, Trust};
// The interface: what a plugin offers. The plugin is compiled against the same package.
use hotswap_types::Plugin;

/// How long an old generation may take to leave before the host goes on without waiting for it.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let path = env::args_os().nth(1).context("usage: host PLUGIN")?;

    // SAFETY: whoever runs this builds the plugins, and gives no other paths. The policy refuses files that other
    // users of this machine could have put there.
    let trust = unsafe { Trust::vouch(Policy::default()) };
    let plugin: Hotswap<dyn Plugin> = Hotswap::load(path, &trust)?;

    // What has happened since it was asked the last time: one line for each candidate that was accepted or refused,
    // and for each old generation that was unloaded or could not be.
    let events = plugin.events();
    let say_events = || events.try_iter().for_each(|event| eprintln!("{event}"));

    say_events();
    call(&plugin);
    for line in io::stdin().lines() {
        let path = line?;
        if !path.is_empty() {
            // A refused candidate changes nothing: the running generation serves on. An event says why.
            if let Ok(swapped) = plugin.swap(path) {
                // Only so that its event is said now. A host with other work does not wait for old code.
                plugin.wait(swapped.retired, LEAVE_TIMEOUT);
            }
            say_events();
        }
        call(&plugin);
    }

    // Retires the last generation, too.
    let mapped = plugin.shutdown(LEAVE_TIMEOUT);
    say_events();
    for generation in mapped {
        eprintln!("still mapped: {generation}");
    }
    Ok(())
}

/// Calls the live generation. All that happens in one `call` happens on one generation.
fn call(plugin: &Hotswap<dyn Plugin>) {
    match plugin.call(|it| it.some_fn(7)) {
        Ok(text) => println!("{text}"),
        // It has panicked.
        Err(fault) => eprintln!("fault: {fault}"),
    }
}
