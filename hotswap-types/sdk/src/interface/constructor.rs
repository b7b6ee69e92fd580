//! The constructor of a plugin: what it takes from the host, and what it returns.

use std::{marker::PhantomData, slice};

use super::{
    call::Remote,
    described::{Described, describe},
    object::RawObject,
    requirement::Requirement,
};
use crate::config::Config;

/// What the host offers a constructor.
///
/// # Invariants
///
/// `services` has a handle for each [`Requirement`] of the constructor, in their order. Its interface was compared with
/// the required one, and it is valid until the image is gone; or it is null, and not needed.
#[derive(Debug)]
pub struct Offered<'a> {
    config: &'a [u8],
    services: slice::Iter<'a, RawObject>,
}

/// A parameter that a constructor can have.
///
/// # Safety
///
/// [`take`](Self::take) takes one service for each requirement that [`require`](Self::require) adds, in their order,
/// and each with the required interface.
#[diagnostic::on_unimplemented(
    message = "a plugin's constructor cannot take a `{Self}`",
    label = "cannot be taken from the host",
    note = "it can take a host service, `Box<dyn Trait>` or `Option<Box<dyn Trait>>`, and a `hotswap_sdk::Config`"
)]
pub unsafe trait FromHost: Sized {
    /// Adds what the host has to have for it.
    fn require(requirements: &mut Vec<Requirement>);

    /// Takes it.
    ///
    /// # Safety
    ///
    /// What [`require`](Self::require) adds is what is next in `offered`.
    unsafe fn take(offered: &mut Offered<'_>) -> Self;
}

/// A function that makes a plugin of type `P`, from `Parameters`.
#[diagnostic::on_unimplemented(
    message = "`make` cannot make a `{P}`",
    label = "not a constructor of it",
    note = "it returns the value, or a `Result` of it whose error can be shown",
    note = "it takes nothing, or what a host can give: host services, `Box<dyn Trait>` or `Option<Box<dyn Trait>>`, \
            and a `hotswap_sdk::Config`; at most eight"
)]
pub trait Constructor<P, Parameters> {
    /// Calls it.
    ///
    /// # Errors
    ///
    /// The function's own error.
    fn construct(self, parameters: Parameters) -> Result<P, String>;
}

/// What a constructor of a plugin of type `P` may return.
#[diagnostic::on_unimplemented(
    message = "`make` returns `{P}`, or a `Result<{P}, E>` whose error can be shown",
    label = "returns `{Self}`"
)]
pub trait Made<P> {
    /// The value, or the text of the error.
    ///
    /// # Errors
    ///
    /// The function's own error.
    fn made(self) -> Result<P, String>;
}

impl<P> Made<P> for P {
    fn made(self) -> Result<P, String> {
        Ok(self)
    }
}

impl<P, E: ToString> Made<P> for Result<P, E> {
    fn made(self) -> Result<P, String> {
        self.map_err(|error| error.to_string())
    }
}

impl<'a> Offered<'a> {
    /// # Safety
    ///
    /// `services` has a handle for each requirement of the constructor, in their order. Its interface was compared with
    /// the required one, and it is valid until the image is gone; or it is null, and not needed.
    pub(super) unsafe fn new(config: &'a [u8], services: &'a [RawObject]) -> Self {
        Self {
            config,
            services: services.iter(),
        }
    }

    /// # Safety
    ///
    /// The next requirement is for an `I`.
    unsafe fn service<I: Described + ?Sized>(&mut self) -> Option<Box<I>> {
        let handle = self.services.next()?;
        if handle.remote.this.is_null() {
            return None;
        }
        // SAFETY: the handle is of a `Send` and `Sync` value of the host, as `#[interface]` demands, with the vtable
        // for it. Both are valid until the image is gone (invariant of `Offered`), and the code is the host's, which
        // stays mapped.
        let remote = unsafe { Remote::object(*handle, None, None) };
        // SAFETY: the handle is for an `I` (`# Safety` of this function), whose interface was compared (invariant of
        // `Offered`).
        Some(unsafe { I::proxy(remote) })
    }
}

// SAFETY: it requires and takes one service with the interface `I`.
unsafe impl<I: Described + ?Sized> FromHost for Box<I> {
    fn require(requirements: &mut Vec<Requirement>) {
        requirements.push(Requirement {
            interface: describe::<I>(),
            is_optional: false,
        });
    }

    unsafe fn take(offered: &mut Offered<'_>) -> Self {
        // SAFETY: the next requirement is the one above (`# Safety` of this function).
        let service = unsafe { offered.service() };
        service.expect("a host has what a plugin cannot do without")
    }
}

// SAFETY: it requires and takes one service with the interface `I`.
unsafe impl<I: Described + ?Sized> FromHost for Option<Box<I>> {
    fn require(requirements: &mut Vec<Requirement>) {
        requirements.push(Requirement {
            interface: describe::<I>(),
            is_optional: true,
        });
    }

    unsafe fn take(offered: &mut Offered<'_>) -> Self {
        // SAFETY: the next requirement is the one above (`# Safety` of this function).
        unsafe { offered.service() }
    }
}

// SAFETY: it requires and takes no service.
unsafe impl FromHost for Config {
    fn require(_: &mut Vec<Requirement>) {}

    unsafe fn take(offered: &mut Offered<'_>) -> Self {
        offered.config.into()
    }
}

// SAFETY: it requires and takes no service.
unsafe impl FromHost for () {
    fn require(_: &mut Vec<Requirement>) {}

    unsafe fn take(_: &mut Offered<'_>) -> Self {}
}

impl<P, F, R> Constructor<P, ()> for F
where
    F: FnOnce() -> R,
    R: Made<P>,
{
    fn construct(self, (): ()) -> Result<P, String> {
        self().made()
    }
}

macro_rules! with_parameters {
    ($($parameter:ident)*) => {
        // SAFETY: each parameter takes what it requires, and they do both in the same order.
        unsafe impl<$($parameter: FromHost),*> FromHost for ($($parameter,)*) {
            fn require(requirements: &mut Vec<Requirement>) {
                $($parameter::require(requirements);)*
            }

            unsafe fn take(offered: &mut Offered<'_>) -> Self {
                ($(
                    // SAFETY: `offered` has what `require` adds for all (`# Safety` of this function), and what is for
                    // the parameters before this one was taken: the parts of a tuple are evaluated in order.
                    unsafe { $parameter::take(offered) },
                )*)
            }
        }

        impl<P, F, R, $($parameter),*> Constructor<P, ($($parameter,)*)> for F
        where
            F: FnOnce($($parameter),*) -> R,
            R: Made<P>,
        {
            #[expect(non_snake_case, reason = "the names of the types")]
            fn construct(self, ($($parameter,)*): ($($parameter,)*)) -> Result<P, String> {
                self($($parameter),*).made()
            }
        }
    };
}

with_parameters!(A);
with_parameters!(A B);
with_parameters!(A B C);
with_parameters!(A B C D);
with_parameters!(A B C D E);
with_parameters!(A B C D E G);
with_parameters!(A B C D E G H);
with_parameters!(A B C D E G H I);

/// A [`Constructor`] of a plugin of type `P`, whatever its parameters are.
pub trait AnyConstructor<P> {
    /// What the host has to have for its parameters.
    fn requirements(&self) -> Vec<Requirement>;

    /// Calls it.
    ///
    /// # Errors
    ///
    /// The function's own error.
    ///
    /// # Safety
    ///
    /// `offered` has what [`requirements`](Self::requirements) says.
    unsafe fn construct(self: Box<Self>, offered: &mut Offered<'_>) -> Result<P, String>;
}

struct WithParameters<C, Parameters>(C, PhantomData<fn(Parameters)>);

/// The function `make`, as the constructor of a plugin of type `P`. It is boxed, so that an error at it is told once;
/// the box of a function has no size.
pub fn constructor<P, Parameters, C>(make: C) -> Box<dyn AnyConstructor<P>>
where
    C: Constructor<P, Parameters> + 'static,
    Parameters: FromHost + 'static,
    P: 'static,
{
    Box::new(WithParameters(make, PhantomData))
}

impl<P, Parameters, C> AnyConstructor<P> for WithParameters<C, Parameters>
where
    C: Constructor<P, Parameters>,
    Parameters: FromHost,
{
    fn requirements(&self) -> Vec<Requirement> {
        let mut requirements = Vec::new();
        Parameters::require(&mut requirements);
        requirements
    }

    unsafe fn construct(self: Box<Self>, offered: &mut Offered<'_>) -> Result<P, String> {
        // SAFETY: `offered` has what `requirements` says (`# Safety` of this function).
        let parameters = unsafe { Parameters::take(offered) };
        self.0.construct(parameters)
    }
}
