//! Background threads and values that survive a swap: a producer counts on while the consumer that prints its numbers
//! is replaced, and a table that took a while to make is made once.
//!
//! ```sh
//! cargo run -p hotswap-demo --example services -- target/debug/libplugin.so [--watch]
//! ```
//!
//! Then change `WORD` in `hotswap-plugin/src/services.rs`, build the plugin again, and paste its path; with `--watch`,
//! building is enough. Lines of standard input are paths, or `:services`, which lists what runs and what is kept.
//! Ctrl-C ends it: services are stopped, the last that was started first.

#[path = "../src/trust.rs"]
mod trust;

use std::{
    fmt::Display,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use crossbeam_channel::{bounded, never, select};
use hotswap_core::{Hotswap, Settings, Trust, services::ServiceSettings, watch::WatchSettings};
use hotswap_types::Plugin;

use crate::trust::{TrustOptions, with_option};

/// Runs what a plugin wants to be run, and keeps what is to outlive it
#[derive(Parser)]
#[command(name = "services")]
struct Options {
    /// The plugin to begin with
    plugin: PathBuf,

    /// Swap whenever the plugin's file changes; the end of standard input ends nothing then
    #[arg(long)]
    watch: bool,

    #[command(flatten)]
    trust: TrustOptions,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let (stop, stops) = bounded(1);
    ctrlc::set_handler(move || {
        let _ = stop.try_send(());
    })?;
    let (sender, mut lines) = bounded(1);
    // Never joined: it may wait for ever.
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });

    // SAFETY: whoever runs the example, and types the paths, vouches for the plugins.
    let trust = unsafe { Trust::vouch(options.trust.policy()) };
    let settings = Settings {
        services: Some(ServiceSettings::default()),
        ..Settings::default()
    };
    let plugin: Arc<Hotswap<dyn Plugin>> =
        Arc::new(Hotswap::load_with(&options.plugin, &trust, settings)?);
    let watch = options
        .watch
        .then(|| plugin.watch(WatchSettings::default()));
    let watch = watch.transpose()?;

    let events = plugin.events();
    loop {
        select! {
            recv(events) -> event => event.into_iter().for_each(|event| say(with_option(event))),
            recv(lines) -> line => match line.as_deref() {
                Ok("") => {}
                Ok(":services") => {
                    plugin.services().iter().for_each(|it| say(format_args!("service {it}")));
                    plugin.refs().iter().for_each(|it| say(format_args!("value {it}")));
                }
                // Either way there is an event that says so.
                Ok(path) => drop(plugin.swap(path)),
                Err(_) if options.watch => lines = never(),
                Err(_) => break,
            },
            recv(stops) -> _ => break,
        }
    }

    drop(watch);
    let plugin = Arc::into_inner(plugin).context("only the watch had it, too")?;
    let mapped = plugin.shutdown(Duration::from_secs(10));
    events.try_iter().for_each(|event| say(with_option(event)));
    mapped.iter().for_each(say);
    Ok(())
}

/// A line in one write: services print, too, and not by way of this.
fn say(what: impl Display) {
    let line = format!("{what}\n");
    // Nobody can be told that nobody listens.
    let _ = io::stderr().write_all(line.as_bytes());
}
