//! The developer's loop, as the demo has it: the first plugin is the first build that is accepted.

use std::{io, io::IsTerminal, path::Path};

use crossbeam_channel::{Receiver, never, select};
use hotswap_core::{Error, Event};
use hotswap_dev::{Build, DevLoop};

use crate::{
    builds::{self, Built},
    console::Console,
    lines::{self, Request},
    reports::{Told, told},
    signals::Signals,
};

/// Waits for a build that is accepted. `None`: it is to end before.
pub(crate) fn first<T>(
    dev: &DevLoop,
    lines: &mut Receiver<Request>,
    signals: &Signals,
    console: &Console,
    load: impl Fn(&Path) -> Result<T, Error>,
) -> Option<T> {
    let is_terminal = io::stdin().is_terminal();
    loop {
        select! {
            recv(dev.builds()) -> build => {
                let Some(built) = built(build.ok()?, dev, None, console) else {
                    continue;
                };
                let loaded = load(&built.path);
                console.say(&built);
                match loaded {
                    Ok(plugin) => return Some(plugin),
                    Err(error) => console.say(&told_of_build(Event::from(&error))),
                }
            }
            recv(lines) -> line => match line {
                Ok(Request::Quit) => return None,
                Ok(Request::Nothing) => {}
                Ok(Request::Help) => console.note(&lines::help()),
                Ok(_) => console.note("there is no plugin yet"),
                // A terminal that has gone is none any more: there is nobody left to run for.
                Err(_) if is_terminal != io::stdin().is_terminal() => return None,
                Err(_) => *lines = never(),
            },
            recv(signals.stops) -> _ => return None,
        }
    }
}

/// The plugin that was built. Whatever else has happened is said; then the generation `live` stays live.
pub(crate) fn built(
    build: Build,
    dev: &DevLoop,
    live: Option<u64>,
    console: &Console,
) -> Option<Built> {
    let taken = builds::take(build, dev.package(), live);
    taken.map_err(|it| console.say(&it)).ok()
}

/// What the library says of a build, and what to do.
pub(crate) fn told_of_build(event: Event) -> Told {
    let hint = builds::hint(&event);
    let mut told = told(event);
    told.hint = hint.map(Into::into).or(told.hint);
    told
}
