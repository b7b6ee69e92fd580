//! The thread that reports services which do not stop. It sleeps until one was asked to.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::instance::Instance;
use crate::{deadline::deadline, history::History, stage::check_thread};

/// The other end of the thread. When this is dropped, the thread ends as soon as those that it knows of have ended
/// or were reported.
pub(super) struct Watchdog(Sender<Asked>);

/// A service, and when it was asked to stop.
type Asked = (Arc<Instance>, Instant);

impl Watchdog {
    pub(super) fn start(history: Arc<History>, stop_deadline: Duration) -> io::Result<Self> {
        let (sender, asked) = unbounded();
        check_thread()?;
        let watchdog = thread::Builder::new().name("hotswap-watchdog".to_owned());
        watchdog.spawn(move || run(&asked, &history, stop_deadline))?;
        Ok(Self(sender))
    }

    /// Has it reported if it has not ended when the deadline is over, which begins now.
    pub(super) fn watch(&self, asked: Arc<Instance>) {
        // It is there for as long as there is a sender.
        drop(self.0.send((asked, Instant::now())));
    }
}

/// The thread takes what it is sent at once, so that the channel stays short; what it keeps are services that have not
/// ended, each of which has a thread.
fn run(asked: &Receiver<Asked>, history: &History, stop_deadline: Duration) {
    // All have the same time, so the first that was asked is the first to be reported.
    let mut stopping: VecDeque<Asked> = VecDeque::new();
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
    use crate::history::Lengths;

    #[test]
    fn what_has_ended_is_not_kept_while_another_does_not_stop() {
        let limits = Lengths {
            ended: 1,
            refused: 1,
            events: 1,
        };
        let history = Arc::new(History::new(limits));
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
        // All but the last one, which nothing has followed yet.
        ended.pop();
        while ended.iter().any(|it| it.strong_count() > 0) {
            thread::yield_now();
        }
    }
}
