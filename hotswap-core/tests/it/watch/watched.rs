//! A plugin in a folder of its own that is watched, and what can be done to it there.

use std::{
    cell::Cell,
    fs,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::symlink},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use hotswap_core::{
    Event, EventKind, Hotswap, Settings, Trust,
    watch::{Watch, WatchSettings},
};
use hotswap_fixtures::FixtureRef;
use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tempfile::TempDir;

use crate::fixtures::{Plugin, SOON, build_of, plugin, trust};

/// No look by itself comes in time: what is noticed was told by the system.
pub(super) const NEVER: Duration = Duration::from_secs(24 * 3600);

/// Longer than any pause of a writer in these tests, also where many tests run at once.
pub(super) const LONG: Duration = Duration::from_secs(2);

pub(super) struct Watched {
    pub(super) folder: TempDir,
    pub(super) it: Arc<Plugin>,
    pub(super) events: Receiver<Event>,
    pub(super) watch: Option<Watch>,
    /// What was accepted last.
    generation: Cell<u64>,
}

/// What is refused is tried again only when it has changed.
pub(super) fn settings(settle: Duration, look_every: Duration) -> WatchSettings {
    WatchSettings {
        settle,
        look_every,
        retry_after: Duration::MAX,
        ..WatchSettings::default()
    }
}

impl Watched {
    /// With build 1 as `plugin.so`. For changes that come as a whole.
    pub(super) fn new() -> Self {
        Self::arranged("plugin.so", |folder| {
            put(&folder.join("plugin.so"), "build_1")
        })
    }

    /// With whatever `arrange` makes of the folder, by way of `path` in it.
    pub(super) fn arranged(path: &str, arrange: impl FnOnce(&Path)) -> Self {
        let mut it = Self::unwatched(path, &trust(), |_| {}, arrange);
        it.watch(settings(Duration::from_millis(20), NEVER));
        it
    }

    pub(super) fn unwatched(
        path: &str,
        trust: &Trust,
        change: impl FnOnce(&mut Settings<FixtureRef>),
        arrange: impl FnOnce(&Path),
    ) -> Self {
        let watched = Self::of_any_build(path, trust, change, arrange);
        assert_eq!(build_of(&watched.it), 1);
        watched
    }

    /// As [`unwatched`](Self::unwatched), whatever build it begins with.
    pub(super) fn of_any_build(
        path: &str,
        trust: &Trust,
        change: impl FnOnce(&mut Settings<FixtureRef>),
        arrange: impl FnOnce(&Path),
    ) -> Self {
        let folder = TempDir::new().unwrap();
        arrange(folder.path());
        let mut settings = Settings::default();
        change(&mut settings);
        let it: Plugin = Hotswap::load_with(folder.path().join(path), trust, settings).unwrap();
        let watched = Self {
            folder,
            events: it.events(),
            it: Arc::new(it),
            watch: None,
            generation: Cell::new(0),
        };
        watched.accepts_any();
        watched
    }

    pub(super) fn watch(&mut self, settings: WatchSettings) {
        self.watch = Some(self.it.watch(settings).unwrap());
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives `name` to a copy of a plugin, at once.
    pub(super) fn put(&self, name: &str, plugin: &str) {
        put(&self.at(name), plugin);
    }

    /// Gives `name` to a link, at once.
    pub(super) fn link(&self, target: &str, name: &str) {
        symlink(target, self.at("link.tmp")).unwrap();
        fs::rename(self.at("link.tmp"), self.at(name)).unwrap();
    }

    /// The next candidate is accepted, is the next generation, and has this build.
    #[track_caller]
    pub(super) fn accepts(&self, build: u64) {
        self.accepts_any();
        assert_eq!(build_of(&self.it), build);
    }

    /// The next candidate is accepted, is the next generation, and may have been replaced since.
    #[track_caller]
    pub(super) fn accepts_any(&self) {
        self.is_accepted(&self.next());
    }

    /// A candidate is accepted as the next generation, and has this build; others may be refused before.
    #[track_caller]
    pub(super) fn accepts_in_the_end(&self, build: u64) {
        let mut event = self.next();
        while let EventKind::Refused { .. } = event.kind {
            event = self.next();
        }
        self.is_accepted(&event);
        assert_eq!(build_of(&self.it), build);
    }

    #[track_caller]
    fn is_accepted(&self, event: &Event) {
        let (EventKind::Accepted { .. }, Some(generation)) = (&event.kind, event.generation) else {
            panic!("not accepted: {event}")
        };
        assert_eq!(generation, self.generation.get() + 1);
        self.generation.set(generation);
    }

    /// The next candidate is refused; gives the reason.
    #[track_caller]
    pub(super) fn refuses(&self) -> String {
        let event = self.next();
        match event.kind {
            EventKind::Refused { reason, .. } => reason,
            _ => panic!("not refused: {event}"),
        }
    }

    /// The next event that is about a candidate.
    #[track_caller]
    pub(super) fn next(&self) -> Event {
        loop {
            let event = self.events.recv_timeout(SOON).expect("a swap");
            match event.kind {
                EventKind::Accepted { .. } | EventKind::Refused { .. } => return event,
                // A number of its own, if it was loaded again.
                EventKind::RolledBack { live, .. } => {
                    self.generation.set(live.max(self.generation.get()));
                }
                _ => {}
            }
        }
    }
}

pub(super) fn put(path: &Path, name: &str) {
    let new = path.with_extension("new");
    fs::copy(plugin(name), &new).unwrap();
    fs::rename(new, path).unwrap();
}

/// Tells when somebody has read a file.
pub(super) struct Reads {
    inotify: OwnedFd,
    name: &'static str,
}

impl Reads {
    pub(super) fn of(folder: &Path, name: &'static str) -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&inotify, folder, WatchFlags::CLOSE_NOWRITE).unwrap();
        Self { inotify, name }
    }

    /// Somebody has read it since the last time.
    fn take(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut read = false;
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes());
                    read |= name == Some(self.name.as_bytes());
                }
                Err(Errno::AGAIN) => return read,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until somebody has read it after `change`.
    #[track_caller]
    pub(super) fn after(&self, change: impl FnOnce()) {
        self.take();
        change();
        let started = Instant::now();
        while !self.take() {
            assert!(started.elapsed() < SOON, "nobody reads `{}`", self.name);
            thread::sleep(Duration::from_millis(2));
        }
    }
}
