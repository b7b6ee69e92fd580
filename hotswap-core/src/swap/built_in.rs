//! A swap point whose first generation is a value of the host's own.

use std::{
    path::Path,
    process,
    sync::{Arc, Mutex},
};

use hotswap_cell::Cell;
use hotswap_sdk::host::{BuiltIn, Interface, Trait};

use super::{
    Generation, Hotswap,
    accepted::{Accepted, LastAccepted},
    code::Code,
    pipeline::Pipeline,
    reaper::Reaper,
    settings::Settings,
    succession::Succession,
};
use crate::{
    error::{Error, Result},
    given::GivenPath,
    history::{History, Published},
    image,
    objects::Objects,
    services::Services,
    stage::Origin,
    trust::Trust,
};

impl<I: Interface<Kind = Trait> + ?Sized> Hotswap<I> {
    /// Makes a swap point whose generation 1 is a value of the host's own. Use it in tests of a host, or in a process that
    /// contains a default implementation.
    ///
    /// Calls go through a proxy, as those of a plugin do, and cost the same; a panic is a [`Fault`](crate::reasons::Fault).
    /// The swap point loads nothing: it refuses each [`swap`](Self::swap). With [`builtin_with`](Self::builtin_with), a plugin
    /// can replace the value.
    ///
    /// # Errors
    ///
    /// The thread that unloads cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotswap_core::Hotswap;
    ///
    /// #[hotswap_sdk::interface]
    /// trait Greeter {
    ///     fn greet(&self, name: &str) -> String;
    /// }
    ///
    /// struct Polite;
    ///
    /// impl Greeter for Polite {
    ///     fn greet(&self, name: &str) -> String {
    ///         format!("Good day, {name}")
    ///     }
    /// }
    ///
    /// let greeter = Hotswap::<dyn Greeter>::builtin(Polite)?;
    /// assert_eq!(greeter.with(|it| it.greet("Ada")), "Good day, Ada");
    /// # Ok::<(), hotswap_core::Error>(())
    /// ```
    pub fn builtin<T>(value: T) -> Result<Self>
    where
        T: Send + Sync + 'static,
        I: BuiltIn<T>,
    {
        Self::built_in(value, None, Settings::default())
    }

    /// Like [`builtin`](Self::builtin), with a trust for plugins that are swapped in later, and with settings.
    ///
    /// A rollback can return to the value only while it is standby or draining.
    ///
    /// # Errors
    ///
    /// A thread that the swap point needs cannot be started.
    pub fn builtin_with<T>(value: T, trust: &Trust, settings: Settings<I>) -> Result<Self>
    where
        T: Send + Sync + 'static,
        I: BuiltIn<T>,
    {
        Self::built_in(value, Some(trust), settings)
    }

    fn built_in<T>(value: T, trust: Option<&Trust>, settings: Settings<I>) -> Result<Self>
    where
        T: Send + Sync + 'static,
        I: BuiltIn<T>,
    {
        const NUMBER: u64 = 1;
        hotswap_cell::set_quiescence_callback(image::detach_current_thread_from_retired);
        image::prepare_for_forks();
        let path = Path::new(GivenPath::BUILT_IN);
        let limits = &settings.limits;
        let history = Arc::new(History::new(limits.lengths()));
        let deadline = limits.drain_deadline;
        let reaper = Reaper::start(path, Arc::clone(&history), deadline, limits.bounds())?;
        let services = settings.services.as_ref();
        let services = services.map(|settings| Services::new(settings, &history));
        let services = services
            .transpose()
            .map_err(|error| Error::no_thread(path, error))?;
        let pipeline = Pipeline::new(trust, &settings);
        let objects = Arc::<Objects>::default();
        let live = I::built_in(value, Arc::clone(&objects) as _);
        let origin = Origin {
            given: GivenPath::built_in(),
            ..Origin::default()
        };
        let number = history.next_number();
        debug_assert_eq!(number, NUMBER, "of a new list");
        let generation = pipeline.generation(number, live, Code::BuiltIn(origin), objects);
        let cell = Cell::with_self_lease(generation, Generation::set_self_lease);
        history.published(Published::built_in(number)).trace();
        Ok(Self {
            cell,
            pipeline,
            history,
            succession: Arc::new(Succession::new(
                settings.probation,
                settings.probation_faults_max,
                settings.rollback_copies_max,
            )),
            accepted: LastAccepted::new(Accepted::built_in(number)),
            services,
            swapping: Mutex::new(()),
            reaper: Some(reaper),
            process: process::id(),
        })
    }
}
