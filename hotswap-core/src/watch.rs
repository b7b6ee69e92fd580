//! Changes of a file become swaps, when they have settled.
//!
//! A thread looks at the way that the last accepted path leads to its file: every folder, every link, the file.
//! Looks are all that counts; what the system says of changes (`notices`) only says when to look. A look that
//! finds something else than the one before is followed by another one after the settle time, until two agree
//! and nothing was heard in between. Then the file's bytes are compared with those that were accepted and those
//! that were refused, and only other ones are swapped in, by [`Hotswap::swap`]'s own pipeline, checks and events.
//! Bytes that were refused for a reason that may pass ([`Error::is_transient`]) are tried again (`retry`).
//!
//! What happens meanwhile is looked at afterwards: a look is begun by what was heard before it, and what is
//! heard during it, or during the swap that it leads to, begins another.

mod known;
mod notices;
mod retry;

use std::{
    convert::Infallible,
    mem, process,
    sync::{Arc, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use abi_stable::library::RootModule;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};

use self::{known::Known, notices::Notices, retry::Retry};
use crate::{
    error::{Error, Result},
    stage::{Reached, Way, check_thread},
    swap::Hotswap,
};

/// Swaps in what the last accepted path leads to, whenever that changes, for as long as this lives.
///
/// See [`Hotswap::watch`]. Dropping it ends its thread, and waits for a swap that the thread is making. (Not
/// from inside a [`Probe`](crate::Probe), then, for which that swap waits.)
#[must_use = "watching ends when this is dropped"]
#[derive(Debug)]
pub struct Watch {
    /// Dropped first: that ends the thread.
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
    /// The process that the thread is in.
    process: u32,
}

/// How a file is watched.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// For how long nothing must have changed before a change is taken for whole. 150 ms unless set, and at
    /// least 1 ms.
    ///
    /// A writer that pauses for longer is waited for until it has closed the file, where the system tells of
    /// that (to the file's owner, or with `CAP_LEASE`). Where it does not, the half-written file is looked at,
    /// and refused; what is written afterwards is another change.
    pub settle: Duration,
    /// How often to look although nothing was heard: for file systems that tell nothing, such as NFS when
    /// another machine writes, and some in user space. 2 s unless set, and at least 1 ms. At most 1 s where the
    /// system cannot tell at all, because its limits are exhausted (`fs.inotify.max_user_instances`,
    /// `max_user_watches`) or a folder on the way may not be listed.
    pub look_every: Duration,
    /// After which pause a file that was refused for a reason that may pass is tried again; each further pause is twice
    /// as long. 2 s unless set, and at least 1 ms. A pause of more than 30 years is one of 30 years, so with
    /// [`Duration::MAX`] it is in effect tried again only when something has changed.
    pub retry_after: Duration,
    /// The longest pause before such a file is tried again. 1 min unless set, and at least
    /// [`retry_after`](Self::retry_after).
    pub retry_after_max: Duration,
}

impl<M: RootModule + Send + Sync> Hotswap<M> {
    /// Watches the file that the last accepted path leads to, and [`swap`](Self::swap)s it in when it has
    /// settled after a change.
    ///
    /// - It is the path that is watched, from the folder in which it was given if it was relative, and not the file
    ///   that it leads to at first: replacing the file by another,
    ///   or any link or folder on the way (`current -> v7`), is a change like writing to the file. While there
    ///   is no file, it is waited for.
    /// - Each settled change is one swap. Bytes that are the last accepted ones are not swapped in again.
    /// - Each attempt that is refused is an [`EventKind::Refused`](crate::EventKind::Refused), and watching goes on.
    /// - Bytes that were refused for what they are are not tried again before other bytes were there.
    /// - Anything else may pass ([`Error::is_transient`]): a library that is missing, a constructor, an update or a probe that fails, too little
    ///   memory, a trial that takes too long, an owner, a signature that is not there yet, too many retired plugins. Such
    ///   a file is tried again after [`retry_after`](WatchSettings::retry_after), and then after pauses that double, up
    ///   to [`retry_after_max`](WatchSettings::retry_after_max). It is tried again at once when it is touched or moved in
    ///   again, also with the same bytes, or when anything else on the way changes. Refused candidates may stay mapped.
    ///   While they make up half of what may be retired and mapped
    ///   ([`Limits::retired_images_max`](crate::Limits::retired_images_max)), no attempt follows a pause, so that
    ///   attempts do not use up what the next good candidate needs.
    /// - When another path is accepted, because somebody swaps it in, that one is watched from then on. A
    ///   rollback changes neither the path nor what counts as accepted, so that it is not undone before the
    ///   file changes again.
    ///
    /// A swap begins between one and two settle times after the last of a change.
    ///
    /// It does not keep the swap point alive, and ends with it. Costs two threads, of which one is `notify`'s,
    /// three descriptors, and an inotify watch for each folder on the way, up to `/`. While nothing changes, it
    /// costs a look every [`look_every`](WatchSettings::look_every), which takes some 20 µs. Whatever else
    /// happens in one of those folders wakes `notify`'s thread, and so does each write to the file, but no look
    /// comes before the settle time has passed. After a change the file is hashed up to three times
    /// ([`Sha256::of`](crate::Sha256::of)).
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
    /// # use hotswap_types::PluginRef;
    /// # let trust = unsafe { Trust::vouch(Policy::default()) };
    /// let plugin: Arc<Hotswap<PluginRef>> = Arc::new(Hotswap::load("./plugins/libplugin.so", &trust)?);
    /// let watch = plugin.watch(WatchSettings::default())?;
    /// for event in plugin.events() {
    ///     println!("{event}");
    /// }
    /// # Ok::<(), hotswap_core::Error>(())
    /// ```
    pub fn watch(self: &Arc<Self>, settings: WatchSettings) -> Result<Watch> {
        let accepted = self.accepted();
        let path = &accepted.path;
        let (stop, stopped) = bounded(0);
        // Room for one: it says that there is something to look at, and not what.
        let (wake, wakes) = bounded(1);
        self.tell_of_accepted(wake.clone());
        let first = settings.retry_after.max(SHORTEST_PAUSE);
        let retry = Retry::new(first, settings.retry_after_max);
        let watcher = Watcher {
            plugin: Arc::downgrade(self),
            settings,
            stopped,
            wakes,
            notices: Notices::new(wake),
            known: Known::new(&accepted),
            retry,
        };
        let thread = thread::Builder::new().name("hotswap-watch".to_owned());
        let thread = check_thread().and_then(|()| thread.spawn(move || watcher.run()));
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
            // A child that was forked off does not have the thread, and nobody to be told.
            mem::forget((self.stop.take(), self.thread.take()));
            return;
        }
        drop(self.stop.take());
        // What it panicked with was printed when it did.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Without it, settings of 0 would keep a processor busy.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// How often to look when the system does not tell of every change.
const LOOK_UNTOLD: Duration = Duration::from_secs(1);

/// What the thread has before it.
struct Watcher<M: RootModule + Send + Sync> {
    plugin: Weak<Hotswap<M>>,
    settings: WatchSettings,
    stopped: Receiver<Infallible>,
    wakes: Receiver<()>,
    notices: Notices,
    known: Known,
    retry: Retry,
}

/// Why there is something to do.
enum Woken {
    Stopped,
    /// Something was heard of.
    Rung,
    TimeUp,
}

impl<M: RootModule + Send + Sync> Watcher<M> {
    fn run(mut self) {
        // The first look is like one after a change: there may have been one since the plugin was loaded.
        let mut rung = true;
        let mut unsettled = None;
        loop {
            let Some(plugin) = self.plugin.upgrade() else {
                return;
            };
            unsettled = self.look(&plugin, rung, unsettled);
            drop(plugin);
            rung = match self.wait(unsettled.is_some()) {
                Woken::Stopped => return,
                Woken::Rung => true,
                Woken::TimeUp => false,
            };
        }
    }

    /// One look, and what follows from it. `unsettled` is what the look before has found, and gives, if another
    /// one must agree.
    fn look(&mut self, plugin: &Hotswap<M>, rung: bool, unsettled: Option<Way>) -> Option<Way> {
        let is_followed = self.known.follow(&plugin.accepted());
        if is_followed {
            self.retry.reset();
        }
        let (way, file) = Way::look(self.known.path().absolute());
        let is_unheard = self.notices.follow(&way);
        if rung || is_followed || is_unheard {
            return Some(way);
        }
        match unsettled {
            None if self.known.is_way(&way) => self.try_again(plugin, &way, file),
            Some(before) if before == way => {
                self.retry.reset();
                let again = file.and_then(|file| self.settled(plugin, &way, &file));
                self.known.set_way(way);
                again
            }
            _ => Some(way),
        }
    }

    /// Swaps in what was refused, if that is due. Gives what [`settled`](Self::settled) does.
    fn try_again(&mut self, plugin: &Hotswap<M>, way: &Way, file: Option<Reached>) -> Option<Way> {
        if !self.retry.take_due() {
            return None;
        }
        if !plugin.has_room_to_retry() {
            self.retry.put_off();
            return None;
        }
        self.settled(plugin, way, &file?)
    }

    /// Swaps the file in if its bytes are news. Gives how the path leads on if that has changed meanwhile.
    fn settled(&mut self, plugin: &Hotswap<M>, way: &Way, file: &Reached) -> Option<Way> {
        let found = match file.sha256(plugin.policy().file_bytes_max) {
            Ok(Some(sha256)) => Some(sha256),
            // Its writer has only paused. There may be no other sign of the end than that it is closed.
            Ok(None) => return Some(way.clone()),
            // What cannot be read is refused by the swap, which says why.
            Err(_) => None,
        };
        if !self.known.is_news(found) {
            return None;
        }
        if let Some(other) = self.changed(way) {
            return Some(other);
        }
        let mut refusal = None;
        plugin.swap_after(self.known.generation(), self.known.path(), |error| {
            // If the way is still the same, these bytes were refused. It is looked at before anybody hears of the
            // refusal, because what they then do changes it.
            refusal = Some((self.changed(way), error.is_transient()));
        });
        match refusal {
            Some((Some(other), _)) => return Some(other),
            Some((None, true)) => self.retry.put_off(),
            Some((None, false)) => self.known.refused(found),
            None => {}
        }
        self.changed(way)
    }

    /// Another way than this one, or this one if something was heard of meanwhile.
    fn changed(&self, way: &Way) -> Option<Way> {
        let (now, _) = Way::look(self.known.path().absolute());
        (now != *way || !self.wakes.is_empty()).then_some(now)
    }

    /// Waits for something to do; for the settle time, whatever is heard of meanwhile, if something has changed:
    /// whoever writes and writes is not looked at for each time.
    fn wait(&self, is_unsettled: bool) -> Woken {
        if is_unsettled {
            let pause = self.settings.settle.max(SHORTEST_PAUSE);
            return match self.stopped.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) if self.wakes.try_recv().is_ok() => Woken::Rung,
                Err(RecvTimeoutError::Timeout) => Woken::TimeUp,
                Err(RecvTimeoutError::Disconnected) => Woken::Stopped,
            };
        }
        let pause = self.settings.look_every.max(SHORTEST_PAUSE);
        let pause = if self.notices.are_complete() {
            pause
        } else {
            pause.min(LOOK_UNTOLD)
        };
        let pause = self.retry.due_in().map_or(pause, |due| due.min(pause));
        select! {
            recv(self.stopped) -> _ => Woken::Stopped,
            recv(self.wakes) -> _ => Woken::Rung,
            default(pause) => Woken::TimeUp,
        }
    }
}
