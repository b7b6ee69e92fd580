//! Notices of changes from the system, through `notify`. A notice says only that there is something to look at.

use std::{collections::BTreeSet, path::PathBuf};

use crossbeam_channel::Sender;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};

/// The system's notices of changes in some folders.
pub(crate) struct Notices {
    wake: Sender<()>,
    folders: BTreeSet<PathBuf>,
    watcher: Option<RecommendedWatcher>,
}

impl Notices {
    /// Watches nothing yet. Sends to `wake` for each notice that counts, unless a wake-up is waiting there.
    pub(crate) fn new(wake: Sender<()>) -> Self {
        Self {
            wake,
            folders: BTreeSet::new(),
            watcher: None,
        }
    }

    /// Watches these folders, without those below them. `true`: they are others than before, so that the caller has to
    /// look again.
    pub(crate) fn follow(&mut self, folders: &BTreeSet<PathBuf>) -> bool {
        if self.folders == *folders {
            return false;
        }
        self.folders.clone_from(folders);
        // Watches everything anew: when a folder was moved, notify forgets more watches than that folder's (8.2,
        // `remove_watch`).
        self.watcher = None;
        let wake = self.wake.clone();
        let tell = move |notice: notify::Result<Event>| {
            if notice.is_ok_and(|it| counts(&it)) {
                // If the channel is full, a wake-up is waiting already.
                let _ = wake.try_send(());
            }
        };
        // Without notices, and without those of a folder, because the limits of the system are exhausted, changes are
        // seen at the next look.
        self.watcher = notify::recommended_watcher(tell).ok();
        for folder in &self.folders {
            if let Some(watcher) = &mut self.watcher {
                let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
            }
        }
        true
    }
}

/// Reading is no change. A look reads, too.
fn counts(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}
