//! The developer's loop, as the demo has it: the first plugin is the first build that is accepted.

use std::{
    env, io,
    io::IsTerminal,
    path::{Path, PathBuf},
};

use crossbeam_channel::{Receiver, never, select};
use hotswap_core::{Error, ErrorKind, Event, EventKind};
use hotswap_dev::{Build, DevLoop};

use crate::{
    console::Console,
    lines::{self, Request},
    reports::{Building, Built, NotBuilt, Told, Unchanged, told},
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

/// The plugin that was built, before it is swapped in. Whatever else has happened is said; then the generation `live`
/// stays live.
pub(crate) fn built(
    build: Build,
    dev: &DevLoop,
    live: Option<u64>,
    console: &Console,
) -> Option<Built> {
    match build {
        Build::Built {
            path,
            rendered,
            took,
            ..
        } => {
            let path = from_here(path);
            return Some(Built {
                path,
                rendered,
                took,
                swapped_in: None,
            });
        }
        Build::Failed { rendered, took, .. } => console.say(&NotBuilt {
            rendered,
            took,
            live,
        }),
        Build::Unchanged { took, .. } => console.say(&Unchanged { took }),
        _ => console.say(&Building {
            package: dev.package(),
        }),
    }
    None
}

/// As somebody would write it who stands in the current folder.
fn from_here(path: PathBuf) -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    match path.strip_prefix(here) {
        Ok(below) if below.components().count() > 1 => below.to_owned(),
        _ => path,
    }
}

/// The host was built together with the first plugin: if they disagree now, the interface was changed.
pub(crate) fn told_of_build(event: Event) -> Told {
    let is_interface = matches!(
        &event.kind,
        EventKind::Refused {
            kind: ErrorKind::Layout { .. } | ErrorKind::Version { .. },
            ..
        }
    );
    let mut told = told(event);
    if is_interface {
        let hint =
            "the interface has changed since this process was built: end it, and run it again";
        told.hint = Some(hint.into());
    }
    told
}
