//! The demo's plugin. What it does is in `code.rs`: edit that while the demo runs.
//! What it keeps running, for hosts that want that, is in `services.rs`.
#![forbid(unsafe_code)]

mod code;
mod services;

// Run by hosts that have turned services on, and by no others.
hotswap_sdk::update!(services::update);
