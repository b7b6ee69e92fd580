//! Ctrl-C and SIGTERM: the first of them asks for an end, the second ends at once.

use std::io;

use signal_hook::low_level;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Whether the server has been asked to end.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Waits until it has.
    pub(crate) async fn asked(&mut self) {
        // An error is that no signals are handled any more, at the very end.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Handles them from now on.
pub(crate) fn handle() -> io::Result<Stop> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminates = signal(SignalKind::terminate())?;
    let (stop, stops) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                _ = interrupts.recv() => SignalKind::interrupt(),
                _ = terminates.recv() => SignalKind::terminate(),
            };
            if stop.send_replace(true) {
                // As a shell counts it. Runs nothing on the way out: plugins may be in the middle of a call.
                low_level::exit(128 + signal.as_raw_value());
            }
        }
    });
    Ok(Stop(stops))
}
