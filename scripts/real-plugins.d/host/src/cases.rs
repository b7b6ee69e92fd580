//! The plugins, and what is expected of each.

use std::fmt;

use libc::c_int;

/// One plugin.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// `plugins/` has it.
    pub(crate) package: &'static str,
    /// Separated by spaces. `unloadable`: with `unloadable!`.
    pub(crate) features: &'static str,
    pub(crate) expected: Expected,
    /// Sent to the process when nobody calls the plugin any more.
    pub(crate) signal: Option<Signal>,
    /// Whether each generation takes some hundred bytes of static TLS, so that the process needs more than it has.
    pub(crate) static_tls: bool,
}

/// What becomes of its generations. In each case the host survives, and no call fails.
#[derive(Debug)]
pub(crate) enum Expected {
    Unloaded,
    /// The reason contains one of these.
    Pinned(&'static [&'static str]),
    /// Unloaded, or pinned with a reason that contains one of these, as long as its successor is there.
    UnloadedOrPinned(&'static [&'static str]),
    /// It is still draining, held by what contains one of these.
    Draining(&'static [&'static str]),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal {
    pub(crate) name: &'static str,
    pub(crate) number: c_int,
}

use Expected::{Draining, Pinned, Unloaded, UnloadedOrPinned};

const SIGINT: Signal = Signal {
    name: "SIGINT",
    number: libc::SIGINT,
};
const SIGUSR1: Signal = Signal {
    name: "SIGUSR1",
    number: libc::SIGUSR1,
};
const SIGUSR2: Signal = Signal {
    name: "SIGUSR2",
    number: libc::SIGUSR2,
};

/// What says which signal it is.
const NAMES_SIGUSR1: &[&str] = &["SIGUSR1", "signal 10"];
const NAMES_SIGUSR2: &[&str] = &["SIGUSR2", "signal 12"];
const THREAD: &[&str] = &["thread"];
/// Without `unloadable!`, nobody knows which threads are the plugin's, or whether they have ended.
const MAY_START_THREADS: &[&str] = &["start threads"];

// One case a line.
#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    case("thread::current, no unloadable!", "thread-current", "", Unloaded),
    case("openssl", "openssl", "unloadable", Pinned(&["libcrypto", "libssl"])),
    case("openssl, no unloadable!", "openssl", "", Pinned(&["libcrypto", "libssl"])),
    case("mimalloc", "allocator", "unloadable mimalloc", Unloaded).with_static_tls(),
    case("jemalloc", "allocator", "unloadable jemalloc", Unloaded),
    case("rusqlite, the system's SQLite", "sqlite", "unloadable", Unloaded),
    case("rusqlite, bundled", "sqlite", "unloadable bundled", Unloaded),
    case("tokio", "tokio", "unloadable", Unloaded),
    case("tokio, no unloadable!", "tokio", "", Pinned(MAY_START_THREADS)),
    case("rayon, own pool", "rayon", "unloadable own-pool", Unloaded),
    case("rayon, global pool", "rayon", "unloadable", Draining(THREAD)),
    case("rayon, global pool, no unloadable!", "rayon", "", Pinned(MAY_START_THREADS)),
    case("ureq with rustls", "ureq", "unloadable", Unloaded),
    case("reqwest with rustls, async methods", "reqwest", "unloadable", Unloaded),
    case("signal-hook", "signal-hook", "unloadable", Pinned(NAMES_SIGUSR1)).then(SIGUSR1),
    case("signal-hook, no unloadable!", "signal-hook", "", Pinned(NAMES_SIGUSR1)).then(SIGUSR1),
    // Its thread is seen before its handler: an image that is still draining is not asked about signals.
    case("ctrlc", "ctrlc", "unloadable", Draining(THREAD)).then(SIGINT),
    case("ctrlc, no unloadable!", "ctrlc", "", Pinned(&["start threads", "SIGINT"])).then(SIGINT),
    case("C++: no threads", "native", "unloadable plain", Unloaded),
    case("C++: a unique symbol", "native", "unloadable unique", Unloaded),
    case("C++: std::thread, joined", "native", "unloadable joined", Unloaded),
    case("C++: std::thread, detached", "native", "unloadable detached", Unloaded),
    case("C++: std::async", "native", "unloadable async", Unloaded),
    case("C: thrd_create, detached", "native", "unloadable thrd", Unloaded),
    case("C: tss_create", "native", "unloadable tss", Unloaded),
    case("C: on_exit", "native", "unloadable on-exit", Pinned(&["on_exit"])),
    case("C: on_exit, no unloadable!", "native", "on-exit", Pinned(&["on_exit"])),
    case("C: timer_create, SIGEV_THREAD", "native", "unloadable timer-thread", Pinned(&["timer_create"])),
    case("C: timer_create, SIGEV_NONE", "native", "unloadable timer-none", Unloaded),
    case("C: sigaction", "native", "unloadable sigaction", Pinned(NAMES_SIGUSR2)).then(SIGUSR2),
    case("C: sigaction, no unloadable!", "native", "sigaction", Pinned(NAMES_SIGUSR2)).then(SIGUSR2),
    // A successor that is called before the hook of its predecessor has run knows the predecessor's handler, and sets
    // it again in its own hook.
    case("C: signal, taken back", "native", "unloadable signal", UnloadedOrPinned(NAMES_SIGUSR2)),
    case("a library with a thread", "library", "unloadable", Pinned(&["libhelper"])),
    case("a library, joined and vouched for", "library", "unloadable vouched", Unloaded),
];

const fn case(
    name: &'static str,
    package: &'static str,
    features: &'static str,
    expected: Expected,
) -> Case {
    Case {
        name,
        package,
        features,
        expected,
        signal: None,
        static_tls: false,
    }
}

impl Case {
    const fn then(self, signal: Signal) -> Self {
        Self {
            signal: Some(signal),
            ..self
        }
    }

    const fn with_static_tls(self) -> Self {
        Self {
            static_tls: true,
            ..self
        }
    }

    /// Its name, in what may be in a file's name.
    pub(crate) fn file_name(&self) -> String {
        let words: Vec<&str> = self
            .name
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        words.join("-")
    }
}

impl Expected {
    pub(crate) fn is_unloaded(&self) -> bool {
        matches!(self, Self::Unloaded)
    }

    /// How many swaps it takes to see it. Every generation that stays costs its memory.
    pub(crate) fn swaps(&self, swaps: u32) -> u32 {
        match self {
            Self::Unloaded | Self::UnloadedOrPinned(_) => swaps,
            Self::Pinned(_) => swaps.min(10),
            Self::Draining(_) => swaps.min(4),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unloaded => f.write_str("unloaded"),
            Self::Pinned(names) => write!(f, "pinned ({})", names.join(" or ")),
            Self::UnloadedOrPinned(names) => {
                write!(f, "unloaded, or pinned ({})", names.join(" or "))
            }
            Self::Draining(names) => write!(f, "draining ({})", names.join(" or ")),
        }
    }
}
