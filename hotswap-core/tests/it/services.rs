//! Services and values that outlive generations.

mod lives;
mod race;
mod refs;
mod storm;
mod swaps;
mod updates;

use std::{
    cell::Cell,
    fs,
    path::PathBuf,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use crossbeam_channel::Receiver;
use hotswap_core::{
    Error, Event, EventKind, Hotswap, Settings, Swapped,
    services::{ServiceChange, ServiceSettings, ServiceState},
};
use hotswap_fixtures::{
    FixtureRef,
    services::{MARK, ROOM, Tally},
};
use tempfile::TempDir;

use crate::fixtures::{Plugin, SOON, plugin, trust, until};

/// A host with services, and files for it whose updates do what a script says.
struct Host {
    plugin: Option<Plugin>,
    /// From the first generation on.
    events: Receiver<Event>,
    files: Files,
}

pub(crate) struct Files {
    folder: TempDir,
    made: Cell<u32>,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            made: Cell::new(0),
        }
    }

    /// A plugin with this script.
    pub(crate) fn with(&self, script: &str) -> PathBuf {
        static BYTES_AND_PLACE: LazyLock<(Vec<u8>, usize)> = LazyLock::new(|| {
            let bytes = fs::read(plugin("services")).expect("a plugin");
            let mut room = MARK.to_vec();
            room.resize(ROOM, 0);
            let place = bytes.windows(ROOM).position(|it| it == room);
            (bytes, place.expect("room for it"))
        });
        let (mut bytes, place) = BYTES_AND_PLACE.clone();
        let script = script.as_bytes();
        bytes[place + MARK.len()..][..script.len()].copy_from_slice(script);
        self.made.set(self.made.get() + 1);
        let path = self.folder.path().join(format!("{}.so", self.made.get()));
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Host {
    fn new(script: &str) -> Self {
        Self::with(script, |_| {})
    }

    fn with(script: &str, change: impl FnOnce(&mut Settings<FixtureRef>)) -> Self {
        let files = Files::new();
        let mut settings = Settings {
            services: Some(ServiceSettings::default()),
            ..Settings::default()
        };
        change(&mut settings);
        let plugin = Hotswap::load_with(files.with(script), &trust(), settings);
        let plugin = plugin.expect("a good plugin");
        Self {
            events: plugin.events(),
            plugin: Some(plugin),
            files,
        }
    }

    /// Until it is shut down.
    fn plugin(&self) -> &Plugin {
        self.plugin.as_ref().expect("not shut down")
    }

    fn swap(&self, script: &str) -> Result<Swapped, Error> {
        self.plugin().swap(self.files.with(script))
    }

    /// Swaps in vain; gives the reason.
    #[track_caller]
    fn refused(&self, script: &str) -> String {
        let path = self.files.with(script);
        let (_, reason) = crate::fixtures::refused(self.plugin(), &path);
        reason
    }

    /// Each service in one line.
    fn services(&self) -> Vec<String> {
        let all = self.plugin().services();
        all.iter().map(ToString::to_string).collect()
    }

    /// Each value in one line, but for the one that counts updates.
    fn refs(&self) -> Vec<String> {
        let all = self.plugin().refs().into_iter();
        let all = all.filter(|it| it.name != "updates.tally");
        all.map(|it| it.to_string()).collect()
    }

    /// Something of what services of this name have done.
    #[track_caller]
    fn tally(&self, name: &str, get: impl FnOnce(&Tally) -> u64) -> u64 {
        let tally = self.plugin().with_ref(&format!("{name}.tally"), get);
        tally.expect("a tally").expect("of that name")
    }

    fn beats(&self, name: &str) -> u64 {
        self.tally(name, |it| it.beats.load(SeqCst))
    }

    fn begun(&self, name: &str) -> u64 {
        self.tally(name, |it| it.begun.load(SeqCst))
    }

    /// Waits until it has come by once more.
    #[track_caller]
    fn goes_on(&self, name: &str) {
        let before = self.beats(name);
        until(|| self.beats(name) > before);
    }

    /// Lets go of what looks at a value and not at the token.
    fn release(&self) {
        let released = self
            .plugin()
            .with_ref("release", |it: &AtomicBool| it.store(true, SeqCst));
        released.unwrap().unwrap();
    }

    /// The next event of a service, as a line without times.
    #[track_caller]
    fn next_news(&self) -> String {
        loop {
            let event = self.events.recv_timeout(SOON).expect("an event");
            if let Some(line) = change_line(&event) {
                return line;
            }
        }
    }
}

/// What an event says of a service, without times.
fn change_line(event: &Event) -> Option<String> {
    let (EventKind::Service { name, change, .. }, Some(generation)) =
        (&event.kind, event.generation)
    else {
        return None;
    };
    let what = match change {
        ServiceChange::Stopped { .. } => "stopped".to_owned(),
        ServiceChange::Stuck { .. } => "stuck".to_owned(),
        ServiceChange::Ended {
            how,
            again_in: Some(_),
            ..
        } => format!("{how}, again"),
        other => other.to_string(),
    };
    Some(format!("{name} {generation} {what}"))
}

/// Waits until the last service of this name is doing this.
#[track_caller]
fn until_state(host: &Host, name: &str, state: ServiceState) {
    until(|| {
        let all = host.plugin().services();
        let last = all.into_iter().rfind(|it| it.name == name);
        last.is_some_and(|it| it.state == state)
    });
}
