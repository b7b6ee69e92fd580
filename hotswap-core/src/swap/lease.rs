//! Leases on one generation, and on request a register of who holds them.

use std::{
    collections::BTreeMap,
    fmt,
    panic::Location,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use hotswap_sdk::host::{Fault, Interface, Trait};

use super::{
    Generation,
    call::{CallTarget, Returns, Target, catch_fault},
};
use crate::{holder::Holder, owned::HostOwned};

/// The right to use one generation for as long as its owner likes: across swaps, threads and `.await`s.
///
/// Taking, cloning and dropping a lease costs a counter; calls through it cost nothing beyond the call. The
/// generation stays mapped, and is reported as held, until its last lease is dropped.
#[must_use = "its generation is free to leave when this is dropped"]
pub struct Lease<I: Interface + ?Sized> {
    generation: hotswap_cell::Lease<Generation<I::Live>>,
    /// Its entry in the generation's register, if there is one.
    entry: u64,
}

/// A value of a plugin together with the lease that keeps its code mapped.
pub struct Bound<I: Interface + ?Sized, T> {
    // Fields are dropped in this order: the value is dropped while its code is still mapped.
    value: T,
    lease: Lease<I>,
}

/// What holds one generation, by the number of its entry, oldest first.
#[derive(Debug)]
pub(super) struct Register<T>(Mutex<BTreeMap<u64, T>>);

/// Where in the code a lease was taken, and when.
pub(super) type Taken = (&'static Location<'static>, Instant);

/// A lease of a holder with a name, which is listed until this is dropped.
pub(super) struct NamedLease<M> {
    generation: hotswap_cell::Lease<Generation<M>>,
    entry: u64,
}

impl<I: Interface + ?Sized> Lease<I> {
    #[track_caller]
    pub(super) fn new(generation: hotswap_cell::Lease<Generation<I::Live>>) -> Self {
        // Called here and not in the closure, which would be the caller itself.
        let place = Location::caller();
        let entry = generation
            .leases
            .as_ref()
            .map_or(0, |leases| leases.enter((place, Instant::now())));
        Self { generation, entry }
    }

    /// Calls `f` with the leased generation.
    #[inline]
    pub fn with<R>(&self, f: impl for<'a> FnOnce(&'a Target<'a, I>) -> R) -> R
    where
        I::Kind: CallTarget<I> + Returns<R>,
    {
        f(I::Kind::target(&self.generation))
    }

    /// Keeps a value of the plugin together with this lease, for as long as its owner likes.
    ///
    /// ```no_run
    /// # use hotswap_core::{Hotswap, Policy, Trust};
    /// # use hotswap_fixtures::FixtureRef;
    /// # let trust = unsafe { Trust::vouch(Policy::default()) };
    /// let plugin: Hotswap<FixtureRef> = Hotswap::load("./libplugin.so", &trust)?;
    /// let function = plugin.lease().bind(|it| it.build_a());
    /// plugin.swap("./libplugin.so")?;
    /// let still_the_old_build = function.with((), |call, ()| call());
    /// # Ok::<(), hotswap_core::Error>(())
    /// ```
    pub fn bind<T>(self, f: impl FnOnce(&Generation<I::Live>) -> T) -> Bound<I, T> {
        Bound {
            value: f(&self.generation),
            lease: self,
        }
    }

    pub(super) fn generation(&self) -> &hotswap_cell::Lease<Generation<I::Live>> {
        &self.generation
    }

    /// The number of the leased generation.
    pub fn number(&self) -> u64 {
        self.generation.number()
    }
}

// SAFETY: what it has of the plugin is in the generation, which stays mapped until it is dropped.
#[expect(unsafe_code, reason = "states that leases may leave a call")]
unsafe impl<I: Interface + ?Sized> HostOwned for Lease<I> {}

impl<I: Interface<Kind = Trait> + ?Sized> Lease<I> {
    /// Calls `f` with the leased generation, and gives a fault of the plugin as an error
    /// ([`Hotswap::call`](crate::Hotswap::call)).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// As there.
    #[inline]
    pub fn call<R>(&self, f: impl for<'a> FnOnce(&'a I::Borrowed<'a>) -> R) -> Result<R, Fault> {
        catch_fault(|| self.with(f)).inspect_err(|_| self.generation.metrics.fault())
    }
}

impl<I: Interface + ?Sized> Clone for Lease<I> {
    #[track_caller]
    fn clone(&self) -> Self {
        Self::new(self.generation.clone())
    }
}

impl<I: Interface + ?Sized> Drop for Lease<I> {
    fn drop(&mut self) {
        if let Some(leases) = &self.generation.leases {
            leases.leave(self.entry);
        }
    }
}

impl<I: Interface + ?Sized, T> Bound<I, T> {
    /// Calls `f` with the value and with `argument`, which is all that `f` can reach of its surroundings.
    ///
    /// `f` captures nothing. A closure that captured could bring two bound values together and exchange what is in
    /// them, if they have interior mutability (a `Mutex` of a function, for example); each content would then outlive
    /// its code.
    ///
    /// ```no_run
    /// # use hotswap_core::{Hotswap, Policy, Trust};
    /// # use hotswap_fixtures::FixtureRef;
    /// # let trust = unsafe { Trust::vouch(Policy::default()) };
    /// # let plugin: Hotswap<FixtureRef> = Hotswap::load("./libplugin.so", &trust)?;
    /// let text = plugin.lease().bind(|it| it.text());
    /// let answer = text.with(7, |text, number| text(number).into_result().map(String::from).ok());
    /// # Ok::<(), hotswap_core::Error>(())
    /// ```
    ///
    /// ```compile_fail,E0308
    /// # use std::{mem, sync::Mutex};
    /// # use hotswap_core::{Hotswap, Policy, Trust};
    /// # use hotswap_fixtures::FixtureRef;
    /// # let trust = unsafe { Trust::vouch(Policy::default()) };
    /// # let plugin: Hotswap<FixtureRef> = Hotswap::load("./libplugin.so", &trust)?;
    /// let old = plugin.lease().bind(|it| Mutex::new(it.build_a()));
    /// plugin.swap("./libplugin.so")?;
    /// let new = plugin.lease().bind(|it| Mutex::new(it.build_a()));
    /// old.with((), |a, ()| new.with((), |b, ()| mem::swap(&mut *a.lock().unwrap(), &mut *b.lock().unwrap())));
    /// # Ok::<(), hotswap_core::Error>(())
    /// ```
    #[inline]
    pub fn with<A: HostOwned, R: HostOwned>(&self, argument: A, f: fn(&T, A) -> R) -> R {
        f(&self.value, argument)
    }

    /// The lease that keeps the value's code mapped.
    pub fn lease(&self) -> &Lease<I> {
        &self.lease
    }
}

impl<I: Interface + ?Sized> fmt::Debug for Lease<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&*self.generation).finish()
    }
}

impl<I: Interface + ?Sized, T: fmt::Debug> fmt::Debug for Bound<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound")
            .field("value", &self.value)
            .field("lease", &self.lease)
            .finish()
    }
}

impl<M> NamedLease<M> {
    pub(super) fn new(generation: hotswap_cell::Lease<Generation<M>>, holder: Holder) -> Self {
        let entry = generation.named_leases.enter(holder);
        Self { generation, entry }
    }
}

impl<M> Drop for NamedLease<M> {
    fn drop(&mut self) {
        self.generation.named_leases.leave(self.entry);
    }
}

impl<T> Register<T> {
    fn enter(&self, item: T) -> u64 {
        let mut all = self.all();
        let entry = all.last_key_value().map_or(0, |(last, _)| last + 1);
        all.insert(entry, item);
        entry
    }

    fn leave(&self, entry: u64) {
        self.all().remove(&entry);
    }

    /// The first `count` of them, oldest first, and how many there are.
    pub(super) fn first(&self, count: usize) -> (Vec<T>, usize)
    where
        T: Clone,
    {
        let all = self.all();
        (all.values().take(count).cloned().collect(), all.len())
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}
