//! The end of the last plugin.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::Receiver;
use hotswap_core::{Event, EventKind, Hotswap, State};
use hotswap_types::Plugin;

use crate::{console::Console, reports::told};

/// Lets the last plugin leave, and says what became of it.
pub(crate) fn shut_down(
    plugin: Arc<Hotswap<dyn Plugin>>,
    events: &Receiver<Event>,
    console: &Console,
    drain_deadline: Duration,
) {
    let plugin = Arc::into_inner(plugin).expect("only the watch had it, too");
    let mapped = plugin.shutdown(drain_deadline);
    for event in events
        .try_iter()
        .filter(|event| !matches!(event.kind, EventKind::Held { .. }))
    {
        let mut told = told(event);
        // Nothing stays live.
        if let EventKind::Refused { live, .. } = &mut told.event.kind {
            *live = None;
        }
        console.say(&told);
    }
    for generation in mapped {
        if let State::Draining { held_by } = generation.state {
            let by: Vec<_> = held_by.iter().map(ToString::to_string).collect();
            let by = by.join(", ");
            console.note(&format!("held generation {}: {by}", generation.number));
        }
    }
}
