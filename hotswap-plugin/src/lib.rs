//! The wiring of the demo's plugin. What it does is in `code.rs`: edit that while the demo runs.
//! What it keeps running, for hosts that want that, is in `services.rs`.

mod code;
mod services;

use abi_stable::{export_root_module, prefix_type::WithMetadata, std_types::RStr};
use hotswap_types::{Answer, Plugin, PluginRef, caught};

// Lets the plugin leave the process whatever it does: threads, thread-locals, printing.
hotswap_types::unloadable!();

// Run by hosts that have turned services on, and by no others.
hotswap_types::sdk::update!(services::update);

/// Found by the host. A constant: a root module that is allocated is left behind at every reload.
#[export_root_module]
fn root_module() -> PluginRef {
    const PLUGIN: &WithMetadata<Plugin> = &WithMetadata::new(Plugin {
        some_data: RStr::from_str(code::SOME_DATA),
        some_fn,
        process,
    });
    PluginRef(PLUGIN.static_as_prefix())
}

extern "C" fn some_fn(number: i64) -> Answer {
    caught(|| Ok(code::some_fn(number)))
}

extern "C" fn process(text: RStr<'_>) -> Answer {
    caught(|| code::process(text.as_str()))
}
