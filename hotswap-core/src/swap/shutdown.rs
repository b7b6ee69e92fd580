//! The end: of one generation, which a host waits for, and of a swap point.

use std::{
    mem,
    time::{Duration, Instant},
};

use hotswap_sdk::host::Interface;

use super::{Hotswap, draining::Draining, reaper::ReaperThread, succession::Replaced};
use crate::{
    deadline::deadline,
    history::{GenerationInfo, History, Recorded, State},
    image::{self, process_end},
};

impl<I: Interface + ?Sized> Hotswap<I> {
    /// Waits at most `timeout` until generation `number` is gone from the address space or is found to be pinned, and
    /// returns its state then. `None`: the list does not have the generation (any more).
    ///
    /// The calling thread leaves retired plugins, as with [`detach_current_thread`]. Inside [`with`](Self::with),
    /// waiting for the generation of that call only times out. Tasks of an executor use
    /// [`wait_async`](Self::wait_async).
    pub fn wait(&self, number: u64, timeout: Duration) -> Option<State> {
        wait_for_end(&self.history, number, timeout)
    }

    /// Retires the live generation, and waits at most `timeout` until all generations and refused candidates are
    /// unloaded. Returns the generations that are still mapped then: held by leases, or pinned.
    ///
    /// Services are stopped first, the last started first. Each is waited for until it counts as stuck
    /// ([`ServiceSettings::stop_deadline`](crate::services::ServiceSettings::stop_deadline)). Then the values are
    /// dropped.
    ///
    /// Generations that are still held keep draining, and are unloaded when their leases are dropped.
    ///
    /// Tasks of an executor use [`shutdown_async`](Self::shutdown_async).
    pub fn shutdown(mut self, timeout: Duration) -> Vec<GenerationInfo> {
        if self.is_inherited() {
            return Vec::new();
        }
        let latest = deadline(Instant::now(), timeout);
        let reaper = self.retire_live(Some(latest));
        let left = || latest.saturating_duration_since(Instant::now());
        let (all_ended, mapped) = wait_detaching(left(), |turn| {
            let mapped = self.history.wait_for_all(turn);
            let all_ended = mapped.iter().all(|generation| generation.state.has_ended());
            (all_ended, (all_ended, mapped))
        });
        if let Some(reaper) = reaper.filter(|_| all_ended) {
            // It may still unload refused candidates, which are not in the list.
            let has_ended = wait_detaching(left(), |turn| {
                let has_ended = reaper.wait(turn);
                (has_ended, has_ended)
            });
            if has_ended {
                reaper.join();
            }
        }
        mapped
    }

    /// Stops the services, and drops the values. Those that have lost their names are dropped first, because a newer
    /// value may use an older one.
    fn close_services(&self, latest: Option<Instant>) {
        if let Some(services) = &self.services {
            let replaced = self.succession.lock().take_values();
            drop(replaced);
            services.close(latest);
        }
    }

    /// Closes the services, and hands the live generation to the reaper, which ends when it has unloaded everything.
    /// `None`: that was done already.
    #[expect(
        unsafe_code,
        reason = "closes the cell of a swap point that is not used any more"
    )]
    fn retire_live(&mut self, latest: Option<Instant>) -> Option<ReaperThread> {
        self.reaper.as_ref()?;
        // Only one whose handle was forgotten is still there.
        self.abandon_canary("the swap point has ended");
        // Before the reaper is taken: if this panics, dropping the swap point does the rest.
        self.close_services(latest);
        let reaper = self.reaper.take()?;
        if let Some(watchdog) = self.hung_calls.take() {
            watchdog.watch(None);
        }
        let mut generations = self.succession.lock();
        let standby = generations.close();
        // SAFETY: this runs once, because the reaper was there, and only in `shutdown` and `drop`. Both own the swap
        // point, and use the cell for nothing after this.
        let live = unsafe { self.cell.close() };
        let live = Replaced {
            number: generations.live(),
            generation: Draining::new(live),
        };
        drop(generations);
        for replaced in standby.into_iter().chain([live]) {
            self.history.draining(replaced.number, Vec::new());
            Recorded::deliver_any(reaper.retire(replaced.number, replaced.generation));
        }
        Some(reaper.end())
    }
}

impl<I: Interface + ?Sized> Drop for Hotswap<I> {
    fn drop(&mut self) {
        if self.is_inherited() {
            // The child has no thread to do it; what is mapped stays mapped.
            mem::forget((
                self.reaper.take(),
                self.services.take(),
                self.hung_calls.take(),
            ));
            return;
        }
        self.retire_live(None);
    }
}

/// Waits at most `timeout` until the generation has ended, and returns its state then.
pub(crate) fn wait_for_end(history: &History, number: u64, timeout: Duration) -> Option<State> {
    wait_detaching(timeout, |turn| match history.wait(number, turn) {
        Some(state) if !state.has_ended() => (false, Some(state)),
        ended => (true, ended),
    })
}

/// Waits in short turns. Between them the calling thread runs what it has left to run for retired plugins, since it
/// may be the thread that is waited for.
fn wait_detaching<T>(timeout: Duration, wait: impl Fn(Instant) -> (bool, T)) -> T {
    const TURN: Duration = Duration::from_millis(2);
    let started = Instant::now();
    loop {
        detach_current_thread();
        let left = timeout.saturating_sub(started.elapsed());
        let (has_ended, answer) = wait(Instant::now() + left.min(TURN));
        // Nothing leaves any more when the process ends.
        if has_ended || left.is_zero() || process_end::has_begun() {
            return answer;
        }
    }
}

/// Runs what the calling thread has left to run for retired plugins now: the destructors of their thread-locals.
/// Otherwise it runs them when it next calls a plugin, drops a lease, or ends.
///
/// Use it on a thread that has called plugins, lives on, and will do none of these things for a long time: until then
/// the plugins that it used stay mapped, and are reported as held by it. A plugin's destructors run only after all
/// calls and leases on it have ended, on whichever thread; calling this earlier has no effect. Costs a few
/// nanoseconds if there is nothing to run.
///
/// # Panics
///
/// A destructor that panics ends the process, as it does at the end of a thread.
pub fn detach_current_thread() {
    image::detach_current_thread_from_retired();
}
