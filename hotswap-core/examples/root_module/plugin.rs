//! The plugin of the example `root_module`. In a program of one's own, a package of its own, a `cdylib`.

pub mod interface;

use interface::{Answer, Greeter, GreeterRef, RStr};

use abi_stable::{export_root_module, prefix_type::WithMetadata};
use hotswap_sdk::caught;

// Lets it leave the process whatever it does: threads, thread-locals, printing.
hotswap_sdk::unloadable!();

#[export_root_module]
fn root_module() -> GreeterRef {
    const GREETER: &WithMetadata<Greeter> = &WithMetadata::new(Greeter { greet });
    GreeterRef(GREETER.static_as_prefix())
}

extern "C" fn greet(name: RStr<'_>) -> Answer {
    caught(|| Ok(format!("Hello, {name}!")))
}
