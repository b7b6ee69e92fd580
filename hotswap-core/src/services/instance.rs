//! One service: a thread of the host that runs a plugin's code.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use abi_stable::std_types::RDuration;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, select};
use hotswap_sdk::{
    Fault, RestartPolicy,
    host::{Body, Token as _},
};

use super::Inner;
use crate::{
    history::{EventKind, History, Recorded, ServiceChange, ServiceEnd, ServiceInfo, ServiceState},
    refs::{Hold, Token},
};

/// The state of a service that other threads see.
pub(super) struct Instance {
    name: String,
    generation: u64,
    token: Arc<Token>,
    status: Mutex<Status>,
    /// Disconnected when the service has finished with the plugin's code. Nothing is ever sent.
    ended: Receiver<()>,
}

struct Status {
    state: ServiceState,
    since: SystemTime,
    restarts: u64,
    mentioned: bool,
    /// When it was asked to stop.
    asked: Option<Instant>,
}

/// What the thread of a service runs once the update that started it is published.
pub(super) struct Run {
    pub(super) body: Body,
    pub(super) policy: RestartPolicy,
    /// The services that have to end first.
    pub(super) before: Vec<Arc<Instance>>,
    pub(super) instance: Arc<Instance>,
    pub(super) services: Weak<Inner>,
    pub(super) history: Arc<History>,
    // Dropped in this order, so that whoever sees the service ended finds its generation free of it.
    pub(super) hold: Hold,
    pub(super) ended: Sender<()>,
}

impl Instance {
    /// A service that is about to run, and the sender whose drop tells that it has ended.
    pub(super) fn new(name: String, generation: u64) -> (Arc<Self>, Sender<()>) {
        let (sender, ended) = bounded(0);
        let instance = Self {
            name,
            generation,
            token: Arc::new(Token::new()),
            status: Mutex::new(Status {
                state: ServiceState::Waiting,
                since: SystemTime::now(),
                restarts: 0,
                mentioned: true,
                asked: None,
            }),
            ended,
        };
        (Arc::new(instance), sender)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its entry in the list. `None`: it ended because it was asked to, so it is not listed.
    pub(super) fn info(&self) -> Option<ServiceInfo> {
        let status = self.status();
        let has_ended = matches!(status.state, ServiceState::Ended(_));
        let is_shown = !has_ended || status.asked.is_none();
        is_shown.then(|| ServiceInfo {
            name: self.name.clone(),
            generation: self.generation,
            state: status.state.clone(),
            since: status.since,
            restarts: status.restarts,
            mentioned: status.mentioned,
        })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Whether it runs or will run, and was not asked to stop.
    pub(super) fn is_to_run(&self) -> bool {
        let status = self.status();
        status.asked.is_none() && !matches!(status.state, ServiceState::Ended(_))
    }

    /// Whether it stays listed once it has ended. It does not if it was asked to stop.
    pub(super) fn stays_listed(&self) -> bool {
        let status = self.status();
        status.asked.is_none() && status.mentioned
    }

    pub(super) fn set_mentioned(&self, mentioned: bool) {
        self.status().mentioned = mentioned;
    }

    /// Asks it to stop. `true`: it had not been asked before, and has not ended.
    pub(super) fn ask_to_stop(&self) -> bool {
        let mut status = self.status();
        if status.asked.is_some() || matches!(status.state, ServiceState::Ended(_)) {
            return false;
        }
        // A service that has not begun does not have to stop.
        if status.state != ServiceState::Waiting {
            status.become_now(ServiceState::Stopping);
        }
        status.asked = Some(Instant::now());
        self.token.set()
    }

    /// Waits until it has ended, and reports it as stuck if it has not by the deadline.
    pub(super) fn wait(&self, deadline: Instant, history: &History) {
        if self.ended.recv_deadline(deadline) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let mut status = self.status();
        let (ServiceState::Stopping, Some(asked)) = (&status.state, status.asked) else {
            return;
        };
        status.become_now(ServiceState::Stuck);
        let after = asked.elapsed();
        let recorded = self.record(history, ServiceChange::Stuck { after });
        drop(status);
        recorded.deliver();
    }

    /// Notes that it runs now. `false`: it was asked to stop, so it does not run.
    fn begin(&self, history: &History) -> bool {
        let mut status = self.status();
        if status.asked.is_some() {
            return false;
        }
        status.restarts += u64::from(status.state != ServiceState::Waiting);
        status.become_now(ServiceState::Running);
        let recorded = self.record(history, ServiceChange::Started);
        drop(status);
        recorded.deliver();
        true
    }

    /// Reports that a run has ended and another will begin after a pause, unless the service is asked to stop.
    fn report_pause(&self, history: &History, how: ServiceEnd, pause: Duration) {
        let mut status = self.status();
        let change = ServiceChange::Ended {
            how: how.clone(),
            again_in: Some(pause),
        };
        if status.asked.is_none() {
            status.become_now(ServiceState::Pausing(how));
        }
        let recorded = self.record(history, change);
        drop(status);
        recorded.deliver();
    }

    /// Reports that it has ended. With `None`, it never began.
    fn report_end(&self, history: &History, how: Option<ServiceEnd>) {
        let mut status = self.status();
        let change = match (&how, status.asked) {
            (None, _) => ServiceChange::NeverBegan,
            (Some(ServiceEnd::Returned), Some(asked)) => ServiceChange::Stopped {
                after: asked.elapsed(),
            },
            (Some(how), _) => ServiceChange::Ended {
                how: how.clone(),
                again_in: None,
            },
        };
        status.become_now(ServiceState::Ended(how.unwrap_or(ServiceEnd::Returned)));
        let recorded = self.record(history, change);
        drop(status);
        recorded.deliver();
    }

    fn record(&self, history: &History, change: ServiceChange) -> Recorded {
        let name = self.name.clone();
        history.happened(Some(self.generation), EventKind::Service { name, change })
    }

    /// Under the lock only a failed allocation can panic, and the status is consistent even then.
    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status {
    fn become_now(&mut self, state: ServiceState) {
        self.state = state;
        self.since = SystemTime::now();
    }
}

impl Run {
    /// The thread's main function: waits its turn, runs the service, and reports its end.
    pub(super) fn run(mut self) {
        let how = self.wait_for_others().then(|| self.supervise()).flatten();
        let Self {
            body,
            before,
            instance,
            services,
            history,
            hold,
            ended,
            ..
        } = self;
        // Drops the plugin's closure while its code is still mapped.
        drop(body);
        drop(before);
        instance.report_end(&history, how);
        drop(hold);
        drop(ended);
        if let Some(services) = services.upgrade() {
            services.state().forget_ended();
        }
    }

    /// Waits until the services in `before` have ended. `false`: this one was asked to stop meanwhile.
    fn wait_for_others(&self) -> bool {
        for other in &self.before {
            select! {
                recv(other.ended) -> _ => {}
                recv(self.instance.token.ready_when_set()) -> _ => return false,
            }
        }
        true
    }

    /// Runs the body, and again if the policy says so. `None`: it was asked to stop before it began.
    fn supervise(&mut self) -> Option<ServiceEnd> {
        let (instance, history) = (&self.instance, &*self.history);
        let stop = instance.token.stop();
        let (mut pauses, mut last) = (0, None);
        while instance.begin(history) {
            let begun = Instant::now();
            let how = match self.body.run(&stop) {
                Ok(()) => ServiceEnd::Returned,
                Err(Fault::Failed(message)) => ServiceEnd::Failed {
                    message: message.into_string(),
                },
                Err(Fault::Panicked(message)) => ServiceEnd::Panicked {
                    message: message.into_string(),
                },
            };
            let pause = pause(self.policy, &how, begun.elapsed(), &mut pauses);
            let Some(pause) = pause.filter(|_| !instance.token.is_set()) else {
                return Some(how);
            };
            instance.report_pause(history, how, pause);
            instance.token.sleep(pause);
            // If it is asked to stop during the pause, it counts as having returned.
            last = Some(ServiceEnd::Returned);
        }
        last
    }
}

/// Converts a plugin's duration; `Duration::new` could panic on its parts.
fn duration(time: RDuration) -> Duration {
    let seconds = Duration::from_secs(time.as_secs());
    seconds.saturating_add(Duration::from_nanos(time.subsec_nanos().into()))
}

/// The pause before the next run; `None`: there is no next run. `pauses` counts the pauses since the last long run.
fn pause(
    policy: RestartPolicy,
    how: &ServiceEnd,
    lasted: Duration,
    pauses: &mut u32,
) -> Option<Duration> {
    let (first, longest) = match (policy, how) {
        (RestartPolicy::Never, _) | (RestartPolicy::OnFailure { .. }, ServiceEnd::Returned) => {
            return None;
        }
        (
            RestartPolicy::OnFailure {
                first_pause,
                longest_pause,
            }
            | RestartPolicy::Always {
                first_pause,
                longest_pause,
            },
            _,
        ) => (duration(first_pause), duration(longest_pause)),
    };
    if lasted > longest {
        *pauses = 0;
    }
    let pause = first.saturating_mul(2_u32.saturating_pow(*pauses));
    *pauses = pauses.saturating_add(1);
    Some(pause.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_restart_after_a_long_run() {
        let ms = Duration::from_millis;
        let (mut pauses, failed) = (
            0,
            ServiceEnd::Failed {
                message: String::new(),
            },
        );
        let mut next = |lasted| {
            pause(
                RestartPolicy::always(ms(10), ms(35)),
                &failed,
                lasted,
                &mut pauses,
            )
        };
        let short: Vec<_> = (0..4).map(|_| next(ms(1))).collect();
        assert_eq!(short, [10, 20, 35, 35].map(|it| Some(ms(it))));
        assert_eq!(next(ms(36)), Some(ms(10)));
    }

    #[test]
    fn no_pause_is_too_long() {
        let longest = RDuration::new(u64::MAX, u32::MAX);
        let policy = RestartPolicy::Always {
            first_pause: longest,
            longest_pause: longest,
        };
        let mut pauses = u32::MAX;
        let next = pause(policy, &ServiceEnd::Returned, Duration::MAX, &mut pauses);
        assert_eq!((next, pauses), (Some(Duration::MAX), u32::MAX));
    }

    #[test]
    fn the_restart_policy_decides_which_ends_are_followed_by_another_run() {
        let runs_again = |policy, how| pause(policy, &how, Duration::ZERO, &mut 0).is_some();
        let failed = || ServiceEnd::Failed {
            message: String::new(),
        };
        let panicked = || ServiceEnd::Panicked {
            message: String::new(),
        };
        let of = |policy| {
            [ServiceEnd::Returned, failed(), panicked()].map(|how| runs_again(policy, how))
        };
        assert_eq!(of(RestartPolicy::Never), [false; 3]);
        assert_eq!(of(RestartPolicy::ON_FAILURE), [false, true, true]);
        assert_eq!(of(RestartPolicy::ALWAYS), [true; 3]);
    }
}
