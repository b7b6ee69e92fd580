//! Notices of changes from the system, through `notify`. A notice says only that there is something to look at.
//!
//! Watching a folder reports changes of the names in it, so each folder on the route is watched. Nothing relies on
//! notices: the watch also looks now and then.

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

use crate::{stage::Route, system::status::FileId, threads};

/// The system's notices of changes on a route.
pub(super) struct Notices {
    wake: Sender<()>,
    filter: Arc<Mutex<Filter>>,
    /// The folders to watch.
    folders: Vec<(PathBuf, FileId)>,
    watcher: Option<RecommendedWatcher>,
    are_complete: bool,
}

/// Decides which notices count.
#[derive(Default)]
struct Filter {
    names: HashSet<PathBuf>,
    /// Those names that are watched folders.
    folders: HashSet<PathBuf>,
    /// Whether a watched folder may not be watched any more.
    is_stale: bool,
}

impl Notices {
    /// Watches nothing yet. Sends to `wake` for each notice that counts, unless a wake-up is waiting there.
    pub(super) fn new(wake: Sender<()>) -> Self {
        Self {
            wake,
            filter: Arc::default(),
            folders: Vec::new(),
            watcher: None,
            are_complete: false,
        }
    }

    /// Watches the folders on `route`. `true`: some of them were not watched before, so the caller has to look again.
    pub(super) fn follow(&mut self, route: &Route) -> bool {
        let folders: Vec<_> = route
            .folders()
            .map(|(path, identity)| (path.to_owned(), identity))
            .collect();
        let names: HashSet<_> = route.names().map(Path::to_owned).collect();
        let mut filter = lock(&self.filter);
        if folders == self.folders && !filter.is_stale {
            let needs_action = filter.names != names;
            filter.names = names;
            drop(filter);
            // The system's limits may not be exhausted any more.
            return needs_action || (self.watcher.is_none() && self.watch());
        }
        drop(filter);

        // Watch everything anew: a notice of an earlier route could be taken for one of this route, and when a folder
        // was moved, notify forgets more watches than that folder's (8.2, `remove_watch`).
        self.watcher = None;
        let filter = Filter {
            names,
            folders: folders.iter().map(|(path, _)| path.clone()).collect(),
            is_stale: false,
        };
        self.filter = Arc::new(Mutex::new(filter));
        self.folders = folders;
        self.watch();
        true
    }

    /// Whether the system reports all changes, as far as it knows.
    pub(super) fn are_complete(&self) -> bool {
        self.are_complete
    }

    /// Watches the folders. `false`: none of them, as the system's limits are exhausted.
    fn watch(&mut self) -> bool {
        self.watcher = self.start();
        self.are_complete = self.watcher.is_some();
        if let Some(watcher) = &mut self.watcher {
            for (folder, _) in &self.folders {
                let watched = watcher.watch(folder, RecursiveMode::NonRecursive);
                self.are_complete &= watched.is_ok();
            }
        }
        self.watcher.is_some()
    }

    /// `None`: the system's limits are exhausted.
    fn start(&self) -> Option<RecommendedWatcher> {
        let (filter, wake) = (Arc::clone(&self.filter), self.wake.clone());
        let tell = move |notice: notify::Result<Event>| {
            if lock(&filter).counts(&notice) {
                // If the channel is full, a wake-up is waiting already.
                let _ = wake.try_send(());
            }
        };
        // notify does not tell when its thread does not start: it panics at every later call, and even when it is
        // dropped (8.2). So this first starts a thread that does nothing.
        drop(threads::start("hotswap-watch", || ()).ok()?.join());
        let mut watcher = ManuallyDrop::new(notify::recommended_watcher(tell).ok()?);
        // Other code may have started the last thread that the system allows meanwhile. So this makes a call that costs
        // nothing, and leaks the watcher if that panics.
        let answer = panic::catch_unwind(AssertUnwindSafe(|| watcher.unwatch(Path::new("/"))));
        answer.ok().map(|_| ManuallyDrop::into_inner(watcher))
    }
}

impl Filter {
    fn counts(&mut self, notice: &notify::Result<Event>) -> bool {
        let Some(event) = notice.as_ref().ok().filter(|it| !it.need_rescan()) else {
            // Notices were lost.
            self.is_stale = true;
            return true;
        };
        let leaves = match event.kind {
            // hotswap itself reads the file.
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

/// Under the lock only a failed allocation can panic; then no more notices come.
fn lock(filter: &Mutex<Filter>) -> MutexGuard<'_, Filter> {
    filter.lock().unwrap_or_else(PoisonError::into_inner)
}
