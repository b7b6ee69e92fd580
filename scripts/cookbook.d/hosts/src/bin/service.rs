//! A service of systemd (`Type=notify-reload`), which works without systemd as well: SIGHUP swaps, SIGTERM ends. With
//! `--watch`, a change of the plugin's file swaps, too.

use std::{env, error::Error, sync::Arc, time::Duration};

use hotswap_core::{Hotswap, Policy, Trust, watch::WatchSettings};
use interface::{Parcel, Postage};
use sd_notify::NotifyState;
use signal_hook::{
    consts::{SIGHUP, SIGTERM},
    iterator::Signals,
};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: service PLUGIN [--watch]")?;
    let is_watching = env::args().nth(2).is_some_and(|it| it == "--watch");
    let mut signals = Signals::new([SIGHUP, SIGTERM])?;
    // SAFETY: nobody but root can write to the folder of the plugin.
    let trust = unsafe { Trust::vouch(Policy::default()) };
    let postage: Arc<Hotswap<dyn Postage>> = Arc::new(Hotswap::load(path, &trust)?);
    let watch = is_watching.then(|| postage.watch(WatchSettings::default())).transpose()?;
    let parcel = Parcel { grams: 1500, country: "NL".to_owned() };
    println!("{:?}", postage.call(|it| it.cents(&parcel))?);

    sd_notify::notify(&[NotifyState::Ready])?;
    for signal in &mut signals {
        if signal == SIGTERM {
            break;
        }
        sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])?;
        let status = match postage.swap(postage.last_accepted()) {
            Ok(swapped) => format!("generation {} is live", swapped.generation),
            // The plugin that runs goes on.
            Err(error) => format!("refused: {error}"),
        };
        println!("{status}");
        sd_notify::notify(&[NotifyState::Status(&status), NotifyState::Ready])?;
    }
    sd_notify::notify(&[NotifyState::Stopping])?;
    drop(watch);
    let postage = Arc::into_inner(postage).ok_or("somebody still has the plugin")?;
    for generation in postage.shutdown(Duration::from_secs(10)) {
        eprintln!("still mapped: {generation}");
    }
    Ok(())
}
