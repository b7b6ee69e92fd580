//! Why an image stays mapped, and what an unloaded image leaves on the heap.

use std::fmt::{self, Display};

use serde::{Serialize, Serializer};

use crate::{
    escape::Escaped,
    report::{Count, report},
};

/// Why an image stays mapped although nobody uses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PinReason {
    /// It was linked to stay (`-z nodelete`). It never leaves.
    NoDelete,
    /// It defines symbols of which a process may have only one (`STB_GNU_UNIQUE`, from C++). It never leaves.
    UniqueSymbols,
    /// A running thread has used a thread-local of the image that has a destructor. The image leaves some time after
    /// that thread has ended.
    ThreadLocals,
    /// It can start threads, and has no `unloadable!` that this host works with, so nobody knows whether they have
    /// ended. It never leaves.
    MayHaveThreads,
    /// It can make pthread keys and has no `unloadable!`, and this system does not show which keys exist. It never
    /// leaves.
    MayHaveKeys,
    /// It uses this function, through which it may be called later, and which can be neither undone nor counted. It
    /// never leaves.
    Function(String),
    /// It has handled this signal (`SIGUSR1`, or `signal 40`), and its handler may still be called. It leaves when
    /// the signal has the handler again that it had before the plugin was loaded.
    SignalHandler(String),
    /// It needs this library, which stays mapped or may have threads, and may call the image. It never leaves.
    Library(String),
    /// This library, which the image needs, has an address of the image in its data. The image leaves when the
    /// address is gone.
    Callback(String),
    /// The system did not unmap it, and hotswap knows of no cause.
    Unknown,
}

impl Serialize for PinReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What an unloaded plugin allocated and did not free: what its statics own, and what it leaked.
#[report]
#[text("{bytes} bytes in {} stay on the heap", Count(*allocations, "allocation"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapLeft {
    /// The bytes that the plugin asked for.
    pub bytes: usize,
    /// The number of allocations.
    pub allocations: usize,
}

impl PinReason {
    /// Whether the image never leaves, so that retrying is useless.
    pub fn is_final(&self) -> bool {
        match self {
            Self::NoDelete
            | Self::UniqueSymbols
            | Self::MayHaveThreads
            | Self::MayHaveKeys
            | Self::Function(_)
            | Self::Library(_) => true,
            Self::ThreadLocals | Self::SignalHandler(_) | Self::Callback(_) | Self::Unknown => {
                false
            }
        }
    }
}

impl Display for PinReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDelete => f.write_str("it is linked with `-z nodelete`, so that the system never unmaps it"),
            Self::UniqueSymbols => f.write_str(
                "it defines unique symbols (STB_GNU_UNIQUE), so that the system never unmaps it",
            ),
            Self::ThreadLocals => {
                f.write_str("a living thread has yet to run a destructor of one of its thread-locals")
            }
            Self::MayHaveThreads => f.write_str(
                "it can start threads and has no `unloadable!` that this host works with, so that they may \
                 still be running",
            ),
            Self::MayHaveKeys => f.write_str(
                "it can make pthread keys and has no `unloadable!`, and this system does not show them",
            ),
            Self::Function(name) => write!(
                f,
                "it uses `{name}`, by which it may still be called; a plugin that knows better vouches for it \
                 (`unloadable!(vouch(\"{name}\"))`)",
                name = Escaped(name)
            ),
            Self::SignalHandler(name) => write!(
                f,
                "it has handled {}, and its handler may still be called; handlers belong in the host",
                Escaped(name)
            ),
            Self::Library(name) => write!(
                f,
                "it needs {name}, which stays mapped or may have threads, and may call it; a plugin that knows \
                 better vouches for it (`unloadable!(vouch(\"{name}\"))`)",
                name = Escaped(name)
            ),
            Self::Callback(name) => {
                write!(f, "{} keeps an address of it, and may call it", Escaped(name))
            }
            Self::Unknown => f.write_str("the system did not unmap it and does not say why"),
        }
    }
}
