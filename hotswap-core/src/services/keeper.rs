//! The thread that reports services which do not stop. It sleeps until one was asked to.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::instance::Instance;
use crate::history::History;

/// The other end of the thread. When this is dropped, the thread ends as soon as those that it knows of have ended
/// or were reported.
pub(super) struct Keeper(Sender<(Arc<Instance>, Instant)>);

impl Keeper {
    pub(super) fn start(history: Arc<History>, stop_deadline: Duration) -> io::Result<Self> {
        let (sender, asked) = unbounded();
        let keeper = thread::Builder::new().name("hotswap-keeper".to_owned());
        keeper.spawn(move || run(&asked, &history, stop_deadline))?;
        Ok(Self(sender))
    }

    /// Has it reported if it has not ended when the deadline is over, which begins now.
    pub(super) fn watch(&self, asked: Arc<Instance>) {
        // It is there for as long as there is a sender.
        drop(self.0.send((asked, Instant::now())));
    }
}

fn run(asked: &Receiver<(Arc<Instance>, Instant)>, history: &History, stop_deadline: Duration) {
    // One after the other: all have the same time, so the first that was asked is the first to be reported.
    for (instance, since) in asked {
        instance.wait(since + stop_deadline, history);
    }
}
