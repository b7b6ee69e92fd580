//! Ctrl-C and SIGTERM: the first of them asks for an end, the second ends at once. SIGHUP asks for a reload.
//!
//! SIGHUP is also what a terminal sends that goes away; the end of its lines follows, and that ends the demo.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator, low_level,
};

use crate::terminal;

/// What signals ask for.
pub(crate) struct Signals {
    /// Receives once, when the process is asked to end.
    pub(crate) stops: Receiver<()>,
    /// Receives when the plugin is to be loaded again. What comes before it is received asks for the same.
    pub(crate) reloads: Receiver<()>,
}

/// Handles them from now on.
pub(crate) fn handle() -> Result<Signals> {
    let (stop, stops) = bounded(1);
    let (reload, reloads) = bounded(1);
    let second = Arc::new(AtomicBool::new(false));

    let (on_interrupt, was_asked) = (stop.clone(), Arc::clone(&second));
    ctrlc::set_handler(move || end(SIGINT, &on_interrupt, &was_asked))?;

    // Not by ctrlc's `termination`: its handler is not told which signal came.
    let mut others = iterator::Signals::new([SIGTERM, SIGHUP])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            others.forever().for_each(|signal| match signal {
                SIGHUP => ask(&reload),
                _ => end(signal, &stop, &second),
            });
        })?;
    Ok(Signals { stops, reloads })
}

fn end(signal: i32, stop: &Sender<()>, second: &AtomicBool) {
    if second.swap(true, Ordering::Relaxed) {
        terminal::close_at_once();
        // As a shell counts it. Runs nothing on the way out: plugins may be in the middle of a call.
        low_level::exit(128 + signal);
    }
    ask(stop);
}

/// Once is enough; and whoever does not receive it has ended.
fn ask(receiver: &Sender<()>) {
    let _ = receiver.try_send(());
}
