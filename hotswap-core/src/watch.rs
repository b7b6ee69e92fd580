//! Turns changes of a file into swaps, once they have settled.
//!
//! A thread looks at the route from the last accepted path to its file: every folder, every link, the file itself.
//! Only what it sees there counts; notices from the system (`notices`) merely tell it when to look. If it sees a
//! change, it looks again after the settle time, until two looks agree and no notice came in between. Then it
//! compares the file's bytes with those that were accepted and those that were refused, and swaps in any other bytes
//! with [`Hotswap::swap`]'s own pipeline, checks and events. It tries bytes again that were refused for a reason that
//! may pass ([`Error::is_transient`], `retry`).
//!
//! No change is missed: notices that came before a look are covered by that look, and a notice that comes during a
//! look, or during the swap that follows, causes another look.

mod handled;
mod notices;
mod retry;

use std::{
    convert::Infallible,
    mem, process,
    sync::{Arc, Weak},
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use hotswap_sdk::host::Interface;

use self::{handled::Handled, notices::Notices, retry::Retry};
use crate::{
    error::{Error, ErrorKind, Result},
    stage::{Route, RouteEnd},
    swap::Hotswap,
    threads,
};

/// Swaps in the file that the last accepted path leads to, whenever it changes, for as long as this value lives.
///
/// See [`Hotswap::watch`]. Dropping it ends its thread, and waits for a swap that the thread is making. (So do not
/// drop it inside a [`Probe`](crate::Probe), for which that swap waits.)
#[must_use = "watching ends when this is dropped"]
#[derive(Debug)]
pub struct Watch {
    /// Dropped first, which ends the thread.
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
    /// The process that the thread belongs to.
    process: u32,
}

/// The settings for watching a file.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// A change counts as complete when nothing has changed for this long. 150 ms unless set, and at least 1 ms.
    ///
    /// A writer may pause for longer. Where the system tells whether a file is open for writing (to the file's owner,
    /// or with `CAP_LEASE`), hotswap waits until the writer has closed it. Elsewhere it tries the half-written file
    /// and refuses it; what is written afterwards is another change.
    pub settle: Duration,
    /// How often to look without a notice. This is for file systems that send none, such as NFS when another machine
    /// writes, and some in user space. 2 s unless set, and at least 1 ms. At most 1 s if the system cannot send
    /// notices at all, because its limits are exhausted (`fs.inotify.max_user_instances`, `max_user_watches`) or a
    /// folder on the route may not be listed.
    pub look_every: Duration,
    /// The pause before a file is tried again that was refused for a reason that may pass; each further pause is
    /// twice as long. 2 s unless set, and at least 1 ms. Pauses are capped at 30 years, so with [`Duration::MAX`] the
    /// file is in effect tried again only after a change.
    pub retry_after: Duration,
    /// The longest pause before such a file is tried again. 1 min unless set, and at least
    /// [`retry_after`](Self::retry_after).
    pub retry_after_max: Duration,
}

impl<I: Interface + ?Sized + 'static> Hotswap<I> {
    /// Watches the file that the last accepted path leads to, and [`swap`](Self::swap)s it in when it has settled
    /// after a change.
    ///
    /// - hotswap watches the path, not the file that it leads to at first. Replacing the file, or any link or folder
    ///   on the route (`current -> v7`), is a change just like writing to the file. A relative path is resolved from
    ///   the folder in which it was given. While there is no file, hotswap waits for one.
    /// - Each settled change is one swap. Bytes that are the last accepted ones are not swapped in again.
    /// - Each refused attempt is an [`EventKind::Refused`](crate::EventKind::Refused), and watching goes on.
    /// - Bytes that were refused for what they are are not tried again until other bytes were there.
    /// - Any other reason may pass ([`Error::is_transient`]): a missing library, a constructor, an update or a probe
    ///   that fails, too little memory, a trial that takes too long, an owner, a signature that is not there yet, too
    ///   many retired plugins. Such a file is tried again after [`retry_after`](WatchSettings::retry_after), and then
    ///   after pauses that double, up to [`retry_after_max`](WatchSettings::retry_after_max). It is tried again at
    ///   once when it is touched or moved in again, even with the same bytes, or when anything else on the route
    ///   changes. Refused candidates may stay mapped. While they make up half of what may be retired and mapped
    ///   ([`Limits::retired_images_max`](crate::Limits::retired_images_max)), no attempt follows a pause, so that
    ///   attempts do not use up what the next good candidate needs.
    /// - When somebody swaps in another path, that path is watched from then on. A rollback changes neither the path
    ///   nor which bytes count as accepted, so watching does not undo it before the file changes again. Nor does
    ///   [`swap_config`](Self::swap_config), after which a file that was refused is tried once more.
    ///
    /// A swap begins between one and two settle times after the last part of a change.
    ///
    /// The watch does not keep the swap point alive, and ends with it. It costs two threads (one of them `notify`'s),
    /// three descriptors, and an inotify watch for each folder on the route, up to `/`. While nothing changes, it
    /// costs a look every [`look_every`](WatchSettings::look_every), which takes some 20 µs. Other events in those
    /// folders wake `notify`'s thread, and so does each write to the file, but hotswap looks only after the settle
    /// time. After a change it hashes the file up to three times ([`Sha256::of`](crate::Sha256::of)).
    ///
    /// # Errors
    ///
    /// The thread could not be started.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use hotswap_core::{Hotswap, Policy, Trust, watch::WatchSettings};
    /// # use hotswap_types::Plugin;
    /// # let trust = unsafe { Trust::vouch(Policy::default()) };
    /// let plugin: Arc<Hotswap<dyn Plugin>> = Arc::new(Hotswap::load("./plugins/libplugin.so", &trust)?);
    /// let watch = plugin.watch(WatchSettings::default())?;
    /// for event in plugin.events() {
    ///     println!("{event}");
    /// }
    /// # Ok::<(), hotswap_core::Error>(())
    /// ```
    pub fn watch(self: &Arc<Self>, settings: WatchSettings) -> Result<Watch> {
        let accepted = self.accepted();
        let path = &accepted.path;
        if path.absolute().as_os_str().is_empty() {
            return Err(Error::new(path, ErrorKind::NothingToWatch));
        }
        let (stop, stopped) = bounded(0);
        // Room for one: a wake-up says only that there is something to look at.
        let (wake, wakes) = bounded(1);
        self.notify_of_accepted(wake.clone());
        let first = settings.retry_after.max(SHORTEST_PAUSE);
        let retry = Retry::new(first, settings.retry_after_max);
        let watcher = Watcher {
            plugin: Arc::downgrade(self),
            settings,
            stopped,
            wakes,
            notices: Notices::new(wake),
            handled: Handled::new(&accepted),
            retry,
        };
        let thread = threads::start("hotswap-watch", move || watcher.run());
        let thread = thread.map_err(|error| Error::no_thread(path, error))?;
        Ok(Watch {
            stop: Some(stop),
            thread: Some(thread),
            process: process::id(),
        })
    }
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(150),
            look_every: Duration::from_secs(2),
            retry_after: Duration::from_secs(2),
            retry_after_max: Duration::from_secs(60),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.process != process::id() {
            // A forked child does not have the thread, and must not wait for it.
            mem::forget((self.stop.take(), self.thread.take()));
            return;
        }
        drop(self.stop.take());
        // If it panicked, the message was printed then.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// The minimum of all settings: with 0 the thread would keep a processor busy.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// How often to look if the system does not send a notice of every change.
const LOOK_WITHOUT_NOTICES: Duration = Duration::from_secs(1);

/// The state of the thread.
struct Watcher<I: Interface + ?Sized> {
    plugin: Weak<Hotswap<I>>,
    settings: WatchSettings,
    stopped: Receiver<Infallible>,
    wakes: Receiver<()>,
    notices: Notices,
    handled: Handled,
    retry: Retry,
}

/// Why the thread wakes up.
enum Woken {
    Stopped,
    /// A notice came.
    Notice,
    TimeUp,
}

impl<I: Interface + ?Sized> Watcher<I> {
    fn run(mut self) {
        // The first look counts as one after a notice: the file may have changed since the plugin was loaded.
        let mut was_notified = true;
        let mut unsettled = None;
        loop {
            let Some(plugin) = self.plugin.upgrade() else {
                return;
            };
            unsettled = self.look(&plugin, was_notified, unsettled);
            drop(plugin);
            was_notified = match self.wait(unsettled.is_some()) {
                Woken::Stopped => return,
                Woken::Notice => true,
                Woken::TimeUp => false,
            };
        }
    }

    /// Looks once, and acts on it. `unsettled` is the route that the previous look saw, if it had changed. Returns
    /// the route that the next look has to confirm, if there is one.
    fn look(
        &mut self,
        plugin: &Hotswap<I>,
        was_notified: bool,
        unsettled: Option<Route>,
    ) -> Option<Route> {
        let is_followed = self.handled.follow(&plugin.accepted());
        if is_followed {
            self.retry.reset();
        }
        // A look that says nothing is none: the path may lead where it did.
        let Some((route, file)) = Route::look(self.handled.path().absolute()) else {
            let is_to_look = was_notified || is_followed;
            return unsettled.or_else(|| is_to_look.then(Route::unknown));
        };
        let is_new_route = self.notices.follow(&route);
        if was_notified || is_followed || is_new_route {
            return Some(route);
        }
        match unsettled {
            None if self.handled.is_route(&route) => self.try_again(plugin, &route, file),
            Some(before) if before == route => {
                self.retry.reset();
                let again = file.and_then(|file| self.settled(plugin, &route, &file));
                self.handled.set_route(route);
                again
            }
            _ => Some(route),
        }
    }

    /// Tries a refused file again, if that is due. Returns what [`settled`](Self::settled) does.
    fn try_again(
        &mut self,
        plugin: &Hotswap<I>,
        route: &Route,
        file: Option<RouteEnd>,
    ) -> Option<Route> {
        if !self.retry.take_due() {
            return None;
        }
        if !plugin.has_room_to_retry() {
            self.retry.schedule();
            return None;
        }
        self.settled(plugin, route, &file?)
    }

    /// Swaps the file in if its bytes are new. Returns the new route if it has changed meanwhile.
    fn settled(&mut self, plugin: &Hotswap<I>, route: &Route, file: &RouteEnd) -> Option<Route> {
        let found = match file.sha256(plugin.policy().file_bytes_max) {
            Ok(Some(sha256)) => Some(sha256),
            // The writer has only paused. Closing the file may be the only other sign of its end, so look again.
            Ok(None) => return Some(route.clone()),
            // A file that cannot be read is left to the swap, which refuses it and says why.
            Err(_) => None,
        };
        if !self.handled.needs_action(found) {
            return None;
        }
        if let Some(other) = self.changed(route) {
            return Some(other);
        }
        let mut refusal = None;
        plugin.swap_after(self.handled.generation(), self.handled.path(), |error| {
            // If the route is still the same, these bytes were refused. Compared before anybody hears of the refusal,
            // because what they then do may change the route.
            refusal = Some((self.changed(route), error.is_transient()));
        });
        match refusal {
            Some((Some(other), _)) => return Some(other),
            Some((None, true)) => self.retry.schedule(),
            Some((None, false)) => self.handled.refused(found),
            None => {}
        }
        self.changed(route)
    }

    /// The current route, if it differs from `route` or a notice has come meanwhile.
    fn changed(&self, route: &Route) -> Option<Route> {
        let (now, _) = Route::look(self.handled.path().absolute())?;
        (now != *route || !self.wakes.is_empty()).then_some(now)
    }

    /// Waits for something to do. After a change it waits for the settle time whatever notices come, so that a busy
    /// writer does not cause a look for each write.
    fn wait(&self, is_unsettled: bool) -> Woken {
        if is_unsettled {
            let pause = self.settings.settle.max(SHORTEST_PAUSE);
            return match self.stopped.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) if self.wakes.try_recv().is_ok() => Woken::Notice,
                Err(RecvTimeoutError::Timeout) => Woken::TimeUp,
                Err(RecvTimeoutError::Disconnected) => Woken::Stopped,
            };
        }
        let pause = self.settings.look_every.max(SHORTEST_PAUSE);
        let pause = if self.notices.are_complete() {
            pause
        } else {
            pause.min(LOOK_WITHOUT_NOTICES)
        };
        let pause = self.retry.due_in().map_or(pause, |due| due.min(pause));
        select! {
            recv(self.stopped) -> _ => Woken::Stopped,
            recv(self.wakes) -> _ => Woken::Notice,
            default(pause) => Woken::TimeUp,
        }
    }
}
