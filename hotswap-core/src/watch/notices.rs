//! What the system tells of changes, by way of `notify`: that there is something to look at, and never what.
//!
//! A folder that is watched tells of what has a name in it, so it is the folders on the way that are watched,
//! one by one. Nothing that is told is relied on: whoever listens also looks now and then.

use std::{
    collections::HashSet,
    mem::ManuallyDrop,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crossbeam_channel::Sender;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};

use crate::stage::{Way, check_thread};

/// The system's notices of changes on a way.
pub(super) struct Notices {
    wake: Sender<()>,
    filter: Arc<Mutex<Filter>>,
    /// The folders that were to be watched.
    folders: Vec<(PathBuf, (u64, u64))>,
    watcher: Option<RecommendedWatcher>,
    are_complete: bool,
}

/// Which notices count.
#[derive(Default)]
struct Filter {
    names: HashSet<PathBuf>,
    /// Those of the names that are watched folders.
    folders: HashSet<PathBuf>,
    /// Whether a watched folder may not be watched any more.
    is_stale: bool,
}

impl Notices {
    /// Of nothing yet. Each that counts is sent to `wake`, unless one is there.
    pub(super) fn new(wake: Sender<()>) -> Self {
        Self {
            wake,
            filter: Arc::default(),
            folders: Vec::new(),
            watcher: None,
            are_complete: false,
        }
    }

    /// Has the system tell of changes on `way`. `true`: it did not tell of all of them before, so that what it
    /// leads to must be looked at again.
    pub(super) fn follow(&mut self, way: &Way) -> bool {
        let folders: Vec<_> = way
            .folders()
            .map(|(path, identity)| (path.to_owned(), identity))
            .collect();
        let names: HashSet<_> = way.names().map(Path::to_owned).collect();
        let mut filter = lock(&self.filter);
        if folders == self.folders && !filter.is_stale {
            let is_news = filter.names != names;
            filter.names = names;
            return is_news;
        }
        drop(filter);

        // All anew: a notice of a former way could be taken for one of this, and notify forgets more watches
        // than those of the folders that were moved (8.2, `remove_watch`).
        self.watcher = None;
        let filter = Filter {
            names,
            folders: folders.iter().map(|(path, _)| path.clone()).collect(),
            is_stale: false,
        };
        self.filter = Arc::new(Mutex::new(filter));
        self.folders = folders;
        self.watcher = self.start();
        self.are_complete = self.watcher.is_some();
        if let Some(watcher) = &mut self.watcher {
            for (folder, _) in &self.folders {
                let watched = watcher.watch(folder, RecursiveMode::NonRecursive);
                self.are_complete &= watched.is_ok();
            }
        }
        true
    }

    /// Whether the system tells of all that changes, as far as it knows.
    pub(super) fn are_complete(&self) -> bool {
        self.are_complete
    }

    /// None: the system's limits are exhausted.
    fn start(&self) -> Option<RecommendedWatcher> {
        let (filter, wake) = (Arc::clone(&self.filter), self.wake.clone());
        let tell = move |notice: notify::Result<Event>| {
            if lock(&filter).counts(&notice) {
                // Full: there is something to look at already.
                let _ = wake.try_send(());
            }
        };
        // Before there is a thread: one that finds no memory for its signal stack ends the process.
        check_thread().ok()?;
        let mut watcher = ManuallyDrop::new(notify::recommended_watcher(tell).ok()?);
        // Should its thread not have started, notify panics whatever it is asked, and even when it is dropped
        // (8.2). So it is asked for something that costs nothing, and left alone if it does not answer.
        let answer = panic::catch_unwind(AssertUnwindSafe(|| watcher.unwatch(Path::new("/"))));
        answer.ok().map(|_| ManuallyDrop::into_inner(watcher))
    }
}

impl Filter {
    fn counts(&mut self, notice: &notify::Result<Event>) -> bool {
        let Some(event) = notice.as_ref().ok().filter(|it| !it.need_rescan()) else {
            // Something was not told.
            self.is_stale = true;
            return true;
        };
        let leaves = match event.kind {
            // We read the file ourselves.
            EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write) => {
                return false;
            }
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => true,
            _ => false,
        };
        self.is_stale |= leaves && event.paths.iter().any(|it| self.folders.contains(it));
        event.paths.iter().any(|it| self.names.contains(it))
    }
}

/// A panic under the lock could only come from a failed allocation; then there are no more notices.
fn lock(filter: &Mutex<Filter>) -> MutexGuard<'_, Filter> {
    filter.lock().unwrap_or_else(PoisonError::into_inner)
}
