//! What plugins say through `tracing` and `log`.

mod callsites;
mod filter;
mod leaving;
mod lines;
mod storm;
mod subscriber;

use hotswap_core::{Hotswap, Settings};
use hotswap_fixtures::logs::Logs;

use crate::fixtures::{plugin, trust};

fn load(name: &str) -> Hotswap<dyn Logs> {
    let settings = Settings {
        name: Some("rules".to_owned()),
        ..Settings::default()
    };
    Hotswap::load_with(plugin(name), &trust(), settings).expect("a good plugin")
}
