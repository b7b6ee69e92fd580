//! Who uses what is retired.

use std::{
    fmt::{self, Display},
    panic::Location,
    time::Duration,
};

use crate::{
    escape::Escaped,
    report::{Count, report},
};

/// Who uses a retired generation, or has something left to do for it.
///
/// Its [`Display`] is a part of a sentence, for example `a call on thread 4711 (worker-3)`.
#[report(tag = "holder")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// A call that is still inside.
    #[text("a call on {}", Thread(*thread, name.0))]
    #[non_exhaustive]
    Call {
        /// The system's number of the thread.
        thread: u32,
        /// What the thread is called; empty if it has ended meanwhile.
        name: String,
    },
    /// Leases.
    #[text("{}", Count(*count, "lease"))]
    Leases {
        /// How many.
        count: usize,
    },
    /// A lease, if leases are recorded ([`Settings::record_leases`](crate::Settings::record_leases)).
    #[text("a lease taken at {place}, for {age:.1?}")]
    #[non_exhaustive]
    Lease {
        /// The place in the code that has taken it.
        place: &'static Location<'static>,
        /// For how long it has been out.
        age: Duration,
    },
    /// A thread that the plugin has started.
    #[text("{}", Own(*thread, name.0, *age))]
    #[non_exhaustive]
    Thread {
        /// The system's number of the thread; none while it starts.
        thread: Option<u32>,
        /// What the thread is called; empty if nobody has named it. (The system then calls it what its creator is
        /// called, so that it would look like one of the host's.)
        name: String,
        /// For how long it has been running.
        age: Duration,
    },
    /// A living thread that has destructors of the plugin's thread-locals to run: when it ends, calls a
    /// plugin again, or says that it is done with
    /// [`detach_current_thread`](crate::detach_current_thread).
    #[text("{} of thread-locals on {}", Count(*count, "destructor"), Thread(*thread, name.0))]
    #[non_exhaustive]
    Destructors {
        /// The system's number of the thread.
        thread: u32,
        /// What the thread is called.
        name: String,
        /// How many.
        count: usize,
    },
    /// A service that runs on it.
    #[text("the service {name:?}")]
    #[non_exhaustive]
    Service {
        /// Its name.
        name: String,
    },
    /// A value that was made by it, and whose code is its.
    #[text("the value {name:?}")]
    #[non_exhaustive]
    Ref {
        /// Its name.
        name: String,
    },
    /// A thread that was alive when a pthread key of the plugin was deleted, and may be running its destructor. Only
    /// of a plugin without `unloadable!`.
    #[text("{}, which may be running the destructor of a deleted key", Thread(*thread, name.0))]
    #[non_exhaustive]
    DeletedKey {
        /// The system's number of the thread.
        thread: u32,
        /// What the thread is called.
        name: String,
    },
    /// The hook that the plugin runs before it is unloaded.
    #[text("its own hook, which is running")]
    Hook,
    /// What the plugin's initialisers have started is more than its `unloadable!` could take note of. This does not
    /// end.
    #[text("more than its `unloadable!` could count")]
    Uncounted,
    /// More than are listed: of a generation that many hold, the first 32 are. [`Leases`](Self::Leases) are not among
    /// them, and come after this.
    #[text("{count} more")]
    More {
        /// How many more.
        count: usize,
    },
}

/// A thread, by number and name.
struct Thread<'a>(u32, &'a str);

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
