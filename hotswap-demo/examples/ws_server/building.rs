//! `--dev`: the builds of a [`DevLoop`], for tasks.

use std::{io, path::Path, thread};

use hotswap_core::{Error, Event};
use hotswap_dev::{Build, DevLoop};
use tokio::sync::mpsc;

use crate::{
    builds::{self, Built},
    signals::Stop,
    trust::with_option,
};

/// What is built, until it is dropped.
pub(crate) struct Builds {
    package: String,
    received: mpsc::Receiver<Build>,
    /// Dropped last: that ends a build that is running.
    _dev: DevLoop,
}

impl Builds {
    /// Receives them on a thread, which ends with the loop.
    pub(crate) fn of(dev: DevLoop) -> io::Result<Self> {
        let (sender, received) = mpsc::channel(1);
        let builds = dev.builds().clone();
        let thread = thread::Builder::new().name("builds".to_owned());
        thread.spawn(move || {
            let mut builds = builds.into_iter();
            builds.all(|build| sender.blocking_send(build).is_ok())
        })?;
        Ok(Self {
            package: dev.package().to_owned(),
            received,
            _dev: dev,
        })
    }

    /// The next plugin that was built. What else happens meanwhile is said; then the generation that `live` gives
    /// stays live. `None`: there is no loop any more.
    pub(crate) async fn next(&mut self, live: impl Fn() -> Option<u64>) -> Option<Built> {
        loop {
            let build = self.received.recv().await?;
            match builds::take(build, &self.package, live()) {
                Ok(built) => return Some(built),
                Err(other) => eprintln!("{other}"),
            }
        }
    }

    /// Waits for a plugin that is accepted. `None`: it is to end before.
    pub(crate) async fn first<T>(
        &mut self,
        mut stop: Stop,
        load: impl Fn(&Path) -> Result<T, Error>,
    ) -> Option<T> {
        loop {
            let built = tokio::select! {
                built = self.next(|| None) => built?,
                () = stop.asked() => return None,
            };
            let loaded = load(&built.path);
            eprintln!("{built}");
            match loaded {
                Ok(plugin) => return Some(plugin),
                Err(error) => eprintln!("{}", with_option(Event::from(&error))),
            }
        }
    }
}
