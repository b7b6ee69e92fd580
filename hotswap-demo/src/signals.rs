//! Ctrl-C and SIGTERM: the first of them asks for an end, the second ends at once.

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
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
    low_level,
};

/// Receives once, when the process is asked to end.
pub(crate) fn stops() -> Result<Receiver<()>> {
    let (asked, stops) = bounded(1);
    let second = Arc::new(AtomicBool::new(false));

    let (on_interrupt, was_asked) = (asked.clone(), Arc::clone(&second));
    ctrlc::set_handler(move || stop(SIGINT, &on_interrupt, &was_asked))?;

    // Not by ctrlc's `termination`: its handler is not told which signal came.
    let mut terminations = Signals::new([SIGTERM])?;
    thread::Builder::new()
        .name("sigterm".to_owned())
        .spawn(move || {
            terminations
                .forever()
                .for_each(|signal| stop(signal, &asked, &second));
        })?;
    Ok(stops)
}

fn stop(signal: i32, asked: &Sender<()>, second: &AtomicBool) {
    if second.swap(true, Ordering::Relaxed) {
        // As a shell counts it. Runs nothing on the way out: plugins may be in the middle of a call.
        low_level::exit(128 + signal);
    }
    // Whoever does not receive it has ended.
    let _ = asked.try_send(());
}
