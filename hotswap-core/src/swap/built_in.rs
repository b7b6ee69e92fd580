//! A swap point whose first generation is a value of the host's own.

use std::{path::Path, sync::Arc};

use hotswap_sdk::host::{BuiltIn, Interface, Trait};

use super::{Hotswap, code::Code, empty::EmptySwapPoint, settings::Settings};
use crate::{
    error::Result, given::GivenPath, history::Phases, objects::Objects, stage::Origin, trust::Trust,
};

impl<I: Interface<Kind = Trait> + ?Sized> Hotswap<I> {
    /// Makes a swap point whose generation 1 is a value of the host's own. Use it in tests of a host, or in a process
    /// that contains a default implementation.
    ///
    /// Calls go through a proxy, as those of a plugin do, and cost the same; a panic is a
    /// [`Fault`](crate::reasons::Fault). The swap point loads nothing: it refuses each [`swap`](Self::swap). With
    /// [`builtin_with`](Self::builtin_with), a plugin can replace the value.
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
        let path = Path::new(GivenPath::BUILT_IN);
        let empty = EmptySwapPoint::start(path, trust, &settings)?;
        let objects = Arc::<Objects>::default();
        let live = I::built_in(value, Arc::clone(&objects) as _);
        let origin = Origin {
            given: GivenPath::built_in(),
            ..Origin::default()
        };
        let number = empty.history.next_number();
        let code = Code::BuiltIn(origin);
        let first = empty.pipeline.generation(number, live, code, objects);
        Ok(empty.publish(first, Phases::default()))
    }
}
