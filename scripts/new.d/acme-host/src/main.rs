//! The host: it gives a job to the plugin every second, while the plugin is replaced as often as you like.
//!
//! `acme-host PLUGIN` loads that file, and swaps it in again whenever it has changed. `acme-host --dev` builds the
//! plugin of this workspace, and again whenever it is saved, and swaps each build in. Ctrl-C ends it.

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use acme_types::{Job, Worker};
use anyhow::{Context, Result};
use crossbeam_channel::{bounded, never, select, tick};
use hotswap_core::{Hotswap, Policy, Trust, watch::WatchSettings};
use hotswap_dev::{Build, DevLoop, DevSettings};

/// At the end, how long the plugin may take to leave.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let argument = env::args_os().nth(1);
    let argument = argument.context("usage: acme-host PLUGIN, or acme-host --dev")?;
    let (stop, stops) = bounded(1);
    ctrlc::set_handler(move || {
        // Once is enough.
        let _ = stop.try_send(());
    })?;

    let dev = (argument == "--dev").then(start_building).transpose()?;
    let builds = dev.as_ref().map_or_else(never, |it| it.builds().clone());
    let path = if dev.is_some() {
        // The first plugin is the first one that compiles.
        loop {
            select! {
                recv(builds) -> build => if let Some(path) = built(build?) { break path },
                recv(stops) -> _ => return Ok(()),
            }
        }
    } else {
        PathBuf::from(argument)
    };

    // SAFETY: whoever starts this vouches for the plugin, and for all that take its place. The policy refuses files
    // that other users of this machine could have put there.
    let trust = unsafe { Trust::vouch(Policy::default()) };
    let worker: Arc<Hotswap<dyn Worker>> = Arc::new(Hotswap::load(path, &trust)?);
    let watch = match dev {
        Some(_) => None,
        None => Some(worker.watch(WatchSettings::default())?),
    };

    // Says what becomes of each plugin: accepted, refused and why, unloaded.
    let events = worker.events();
    let ticks = tick(Duration::from_secs(1));
    let mut number = 0;
    loop {
        select! {
            recv(ticks) -> _ => {
                number += 1;
                work(&worker, number);
            }
            // A plugin that is refused changes nothing, and an event says why.
            recv(builds) -> build => drop(built(build?).map(|path| worker.swap(path))),
            recv(events) -> event => eprintln!("{}", event?),
            recv(stops) -> _ => break,
        }
    }

    // Whatever may swap goes first.
    drop((dev, watch));
    let worker = Arc::into_inner(worker).expect("only the watch had it, too");
    for generation in worker.shutdown(LEAVE_TIMEOUT) {
        eprintln!("still mapped: {generation}");
    }
    events.try_iter().for_each(|event| eprintln!("{event}"));
    Ok(())
}

/// One job, done by whichever plugin is live. All that happens in one `call` happens on one plugin.
fn work(worker: &Hotswap<dyn Worker>, number: u64) {
    let text = format!("job number {number}");
    match worker.call(|it| it.work(&Job { number, text })) {
        Ok(Ok(done)) => println!("{done}"),
        Ok(Err(error)) => println!("not done: {error}"),
        // It has panicked.
        Err(fault) => println!("fault: {fault}"),
    }
}

fn start_building() -> Result<DevLoop> {
    Ok(DevLoop::start(DevSettings {
        package: Some("acme-plugin".to_owned()),
        host: Some(env!("CARGO_PKG_NAME").to_owned()),
        ..DevSettings::default()
    })?)
}

/// The file of a new plugin, if there is one. Shows what the compiler says.
fn built(build: Build) -> Option<PathBuf> {
    match build {
        Build::Started => eprintln!("building"),
        Build::Failed { rendered, .. } => eprint!("{rendered}"),
        Build::Built { path, rendered, .. } => {
            eprint!("{rendered}");
            return Some(path);
        }
        _ => {}
    }
    None
}
