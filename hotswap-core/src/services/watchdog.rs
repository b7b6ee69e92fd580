//! The thread that reports services that do not stop. It sleeps until one is asked to.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::instance::Instance;
use crate::{deadline::deadline, history::History, threads};

/// The handle of the thread. When this is dropped, the thread ends as soon as all services that it watches have ended
/// or were reported.
pub(super) struct Watchdog(Sender<Stopping>);

/// A service, and when it was asked to stop.
type Stopping = (Arc<Instance>, Instant);

impl Watchdog {
    pub(super) fn start(history: Arc<History>, stop_deadline: Duration) -> io::Result<Self> {
        let (sender, asked) = unbounded();
        threads::start("hotswap-watchdog", move || {
            run(&asked, &history, stop_deadline);
        })?;
        Ok(Self(sender))
    }

    /// Reports the service unless it ends within the stop deadline, which starts now.
    pub(super) fn watch(&self, asked: Arc<Instance>) {
        // The thread runs for as long as there is a sender.
        drop(self.0.send((asked, Instant::now())));
    }
}

/// The thread takes each service from the channel at once, so the channel stays short. It keeps only services that
/// have not ended, each of which has a thread.
fn run(asked: &Receiver<Stopping>, history: &History, stop_deadline: Duration) {
    // The stop deadline is the same for all, so the service that was asked first is the first to be reported.
    let mut stopping: VecDeque<Stopping> = VecDeque::new();
    loop {
        stopping.retain(|(instance, _)| !instance.has_ended());
        let until = stopping
            .front()
            .map(|(_, since)| deadline(*since, stop_deadline));
        let next = match until {
            Some(until) => asked.recv_deadline(until),
            None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(one) => stopping.push_back(one),
            Err(RecvTimeoutError::Timeout) => {
                if let Some((instance, _)) = stopping.pop_front() {
                    instance.wait(Instant::now(), history);
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    for (instance, since) in stopping {
        instance.wait(deadline(since, stop_deadline), history);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Lengths, Metrics};

    #[test]
    fn an_ended_service_is_not_kept_while_another_does_not_stop() {
        let limits = Lengths {
            ended: 1,
            refused: 1,
            events: 1,
        };
        let history = Arc::new(History::new(limits, Metrics::new("test")));
        let watchdog = Watchdog::start(history, Duration::MAX).unwrap();
        let (stuck, _goes_on) = Instance::new("stuck".to_owned(), 1);
        watchdog.watch(stuck);
        let mut ended = Vec::new();
        for number in 0..100 {
            let (instance, sender) = Instance::new(number.to_string(), 1);
            ended.push(Arc::downgrade(&instance));
            drop(sender);
            watchdog.watch(instance);
        }
        // The last one is dropped only when the thread takes the next.
        ended.pop();
        while ended.iter().any(|it| it.strong_count() > 0) {
            std::thread::yield_now();
        }
    }
}
