//! What a service does, and when it is to do it again.

use std::time::Duration;

use abi_stable::{
    StableAbi,
    std_types::{RDuration, RResult},
};

use crate::{Fault, Stop, caught, fault::discard};

/// Whether a service that has ended of its own accord is started again, on the code it began with.
///
/// Between two runs there is a pause: the first time `first_pause`, then twice as long each time, up to
/// `longest_pause`. A run that has lasted for longer than that begins anew. To be asked to stop ends the pause.
#[repr(u8)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// No.
    Never,
    /// After a panic or an error.
    OnFailure {
        /// The first pause.
        first_pause: RDuration,
        /// The longest pause.
        longest_pause: RDuration,
    },
    /// After a panic, an error or a return.
    Always {
        /// The first pause.
        first_pause: RDuration,
        /// The longest pause.
        longest_pause: RDuration,
    },
}

/// What a service may return: nothing, or whether it has failed.
pub trait Outcome {
    /// As a result.
    fn into_result(self) -> Result<(), String>;
}

/// The closure of a service, in the hands of the host.
///
/// # Invariants
///
/// `data` is a `Box` of the closure that `run` and `drop` are for: [`new`](Self::new) is the only maker.
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct Body {
    data: *mut (),
    run: unsafe extern "C" fn(*mut (), &Stop) -> RResult<(), Fault>,
    drop: unsafe extern "C" fn(*mut ()),
}

// SAFETY: `new` takes only closures that may be sent to another thread.
unsafe impl Send for Body {}

impl RestartPolicy {
    /// After a panic or an error, with pauses from 100 ms to 30 s.
    pub const ON_FAILURE: Self =
        Self::on_failure(Duration::from_millis(100), Duration::from_secs(30));
    /// Whenever it ends, with pauses from 100 ms to 30 s.
    pub const ALWAYS: Self = Self::always(Duration::from_millis(100), Duration::from_secs(30));

    /// After a panic or an error.
    pub const fn on_failure(first_pause: Duration, longest_pause: Duration) -> Self {
        Self::OnFailure {
            first_pause: duration(first_pause),
            longest_pause: duration(longest_pause),
        }
    }

    /// Whenever it ends.
    pub const fn always(first_pause: Duration, longest_pause: Duration) -> Self {
        Self::Always {
            first_pause: duration(first_pause),
            longest_pause: duration(longest_pause),
        }
    }
}

const fn duration(time: Duration) -> RDuration {
    RDuration::new(time.as_secs(), time.subsec_nanos())
}

impl Outcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Into<String>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(Into::into)
    }
}

impl Body {
    /// Only for use in a plugin: what the closure panics with is caught by the code that is compiled here.
    pub fn new<F, R>(body: F) -> Self
    where
        F: FnMut(&Stop) -> R + Send + 'static,
        R: Outcome,
    {
        unsafe extern "C" fn run<F, R>(data: *mut (), stop: &Stop) -> RResult<(), Fault>
        where
            F: FnMut(&Stop) -> R,
            R: Outcome,
        {
            // SAFETY: `Body::run` passes its `data`, which is a `Box` of an `F` (invariant of `Body`), and is borrowed
            // exclusively.
            let body = unsafe { &mut *data.cast::<F>() };
            caught(|| body(stop).into_result().map(|()| String::new())).map(|_| ())
        }

        unsafe extern "C" fn drop<F>(data: *mut ()) {
            // SAFETY: a `Body` that is being dropped passes its `data`, which is from `Box::<F>::into_raw`, once.
            let body = unsafe { Box::from_raw(data.cast::<F>()) };
            discard(body);
        }

        Self {
            data: Box::into_raw(Box::new(body)).cast(),
            run: run::<F, R>,
            drop: drop::<F>,
        }
    }

    /// Runs it once.
    pub fn run(&mut self, stop: &Stop) -> Result<(), Fault> {
        // SAFETY: `run` is the function for the closure at `data` (invariant of `Body`), and `self` is borrowed
        // exclusively.
        unsafe { (self.run)(self.data, stop) }.into_result()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // SAFETY: `drop` is the function for the closure at `data` (invariant of `Body`). The body owns it, and this
        // runs once.
        unsafe { (self.drop)(self.data) }
    }
}
