//! A host of a plugin whose interface is not a trait, but an abi_stable root module of its own.
//!
//! ```sh
//! cargo build -p hotswap-core --examples && \
//!     cargo run -p hotswap-core --example root_module -- target/debug/examples/libroot_module_plugin.so
//! ```
//!
//! It greets whoever is typed. Change the greeting in `hotswap-core/examples/root_module/plugin.rs`, run
//! `cargo build -p hotswap-core --examples` in another terminal, and type an empty line: the new code greets. The end
//! of the input (Ctrl-D) ends it.

#[path = "root_module/interface.rs"]
pub mod interface;

use interface::GreeterRef;

use std::{env, io};

use anyhow::{Context, Result};
use hotswap_core::{Hotswap, Policy, Trust};

fn main() -> Result<()> {
    let path = env::args_os().nth(1).context("usage: root_module PLUGIN")?;

    // SAFETY: whoever runs this builds the plugin, and gives no other path. The policy refuses files that other users
    // of this machine could have put there.
    let trust = unsafe { Trust::vouch(Policy::default()) };
    let greeter: Hotswap<GreeterRef> = Hotswap::load(&path, &trust)?;

    for line in io::stdin().lines() {
        let name = line?;
        if name.is_empty() {
            match greeter.swap(&path) {
                Ok(swapped) => println!("generation {} is live", swapped.generation),
                // Nothing has changed: the running generation serves on.
                Err(refused) => eprintln!("{refused}"),
            }
            continue;
        }
        // What leaves the closure belongs to the host: a `String`, and not the plugin's `RString`.
        let greeting = greeter.with(|it| match it.greet()(name.as_str().into()).into_result() {
            Ok(text) => text.into_string(),
            // It has panicked.
            Err(fault) => fault.to_string(),
        });
        println!("{greeting}");
    }
    Ok(())
}
