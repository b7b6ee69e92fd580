//! Who uses a retired generation.

use std::{
    fmt::{self, Display},
    panic::Location,
    time::Duration,
};

use crate::{
    escape::Escaped,
    report::{Count, report},
};

/// Who uses a retired generation, or has something left to run for it.
///
/// Its [`Display`] is a part of a sentence, for example `a call on thread 4711 (worker-3)`.
#[report(tag = "holder")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// A call that has not returned.
    #[text("a call on {}", Thread(*thread, name.0))]
    #[non_exhaustive]
    Call {
        /// The system's number of the thread.
        thread: u32,
        /// The name of the thread; empty if the thread has ended meanwhile.
        name: String,
    },
    /// Leases that are not recorded.
    #[text("{}", Count(*count, "lease"))]
    Leases {
        /// The number of leases.
        count: usize,
    },
    /// A lease, if leases are recorded ([`Settings::record_leases`](crate::Settings::record_leases)).
    #[text("a lease taken at {place}, for {age:.1?}")]
    #[non_exhaustive]
    Lease {
        /// The place in the code where it was taken.
        place: &'static Location<'static>,
        /// The time since it was taken.
        age: Duration,
    },
    /// A thread that the plugin started.
    #[text("{}", Own(*thread, name.0, *age))]
    #[non_exhaustive]
    Thread {
        /// The system's number of the thread; none while it is being started.
        thread: Option<u32>,
        /// The name of the thread; empty if nobody has named it. (The system gives such a thread the name of its
        /// creator, so it would look like one of the host's.)
        name: String,
        /// The time since it was started.
        age: Duration,
    },
    /// A living thread that has destructors of the plugin's thread-locals to run. It runs them when it ends, calls a
    /// plugin again, or calls [`detach_current_thread`](crate::detach_current_thread).
    #[text("{} of thread-locals on {}", Count(*count, "destructor"), Thread(*thread, name.0))]
    #[non_exhaustive]
    Destructors {
        /// The system's number of the thread.
        thread: u32,
        /// The name of the thread.
        name: String,
        /// The number of destructors.
        count: usize,
    },
    /// A service that runs the generation's code.
    #[text("the service {name:?}")]
    #[non_exhaustive]
    Service {
        /// Its name.
        name: String,
    },
    /// A value that the generation made, and whose code belongs to it.
    #[text("the value {name:?}")]
    #[non_exhaustive]
    Ref {
        /// Its name.
        name: String,
    },
    /// A thread that was alive when a pthread key of the plugin was deleted, and that may be running the key's
    /// destructor. Only for a plugin without `unloadable!`.
    #[text("{}, which may be running the destructor of a deleted key", Thread(*thread, name.0))]
    #[non_exhaustive]
    DeletedKey {
        /// The system's number of the thread.
        thread: u32,
        /// The name of the thread.
        name: String,
    },
    /// The hook that the plugin runs before it is unloaded.
    #[text("its own hook, which is running")]
    Hook,
    /// The plugin's initialisers registered more than its `unloadable!` could note. This does not end.
    #[text("more than its `unloadable!` could count")]
    Uncounted,
    /// Objects of an interface that it has made.
    #[text("{} of {interface}", Count(*count, "object"))]
    #[non_exhaustive]
    Objects {
        /// The name of the trait.
        interface: String,
        /// How many.
        count: usize,
    },
    /// Calls of its async methods ([`Hotswap::call_async`](crate::Hotswap::call_async)) that are under way. One that
    /// was never polled is listed as a lease.
    #[text("{}", Count(*count, "future"))]
    #[non_exhaustive]
    Futures {
        /// How many.
        count: usize,
    },
    /// Wakers of its code that the host keeps, for example in a timer or in a list of waiting tasks.
    #[text("{}", Count(*count, "waker"))]
    #[non_exhaustive]
    Wakers {
        /// How many.
        count: usize,
    },
    /// More holders than are listed: only the first 32 are. [`Leases`](Self::Leases) are not among them, and come
    /// after this.
    #[text("{count} more")]
    More {
        /// The number of holders that are not listed.
        count: usize,
    },
}

impl Holder {
    /// The number of holders that it stands for.
    pub fn count(&self) -> usize {
        match *self {
            Self::Leases { count }
            | Self::Destructors { count, .. }
            | Self::Objects { count, .. }
            | Self::Futures { count }
            | Self::Wakers { count }
            | Self::More { count } => count,
            _ => 1,
        }
    }
}

/// A thread, by number and name.
pub(crate) struct Thread<'a>(pub(crate) u32, pub(crate) &'a str);

impl Display for Thread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {}", self.0)?;
        if self.1.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", Escaped(self.1))
        }
    }
}

/// A thread of a plugin's own.
struct Own<'a>(Option<u32>, &'a str, Duration);

impl Display for Own<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, name, age) = *self;
        let Some(number) = number else {
            return f.write_str("a thread of its own that is being started");
        };
        let unnamed = if name.is_empty() {
            " (without a name)"
        } else {
            ""
        };
        write!(
            f,
            "{} of its own{unnamed}, for {age:.1?}",
            Thread(number, name)
        )
    }
}
