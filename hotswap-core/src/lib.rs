//! Replace part of a running process's own compiled code.
//!
//! To begin with, follow the [tutorial](docs::tutorial). The [manual](docs) has the rest.
//!
//! A [`Hotswap`] holds a plugin: a `cdylib` that implements a [trait](docs::traits), or exports an abi_stable [root
//! module](docs::root_modules) of its own. Any number of threads call it, at little more than the price of a function
//! pointer. [`swap`](Hotswap::swap) loads a candidate, checks it, and publishes it with one atomic store; a candidate
//! that cannot be used changes nothing. The previous generation drains and is unloaded; hotswap then verifies that it
//! is gone. It ends as *unloaded*, or as *pinned* with a reason.
//!
//! ```no_run
//! use hotswap_core::{Hotswap, Policy, Trust};
//! use hotswap_types::Plugin;
//!
//! // SAFETY: we build these plugins ourselves, and nobody else can write to that folder.
//! let trust = unsafe { Trust::vouch(Policy::default()) };
//! let plugin: Hotswap<dyn Plugin> = Hotswap::load("./plugins/libplugin.so", &trust)?;
//!
//! let answer = plugin.call(|it| it.some_fn(7))?;
//! assert_eq!(answer, "Adding to 10: 17");
//! let swapped = plugin.swap("./plugins/libplugin.so")?;
//! assert_eq!(swapped.generation, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The smallest host, an axum server, a host of a root module and a test of a plugin are in `hotswap-core/examples` of
//! the repository.
//!
//! # The pipeline of a candidate
//!
//! ```text
//! path ─► Staged ─► Image ─► root module ─► published generation ─► retired ─► unloaded
//!         trusted,  dlopen   header,        with(), lease()         drained    or pinned
//!         private            version and
//!         copy,              layout checked
//!         inspected
//! ```
//!
//! With a [`Trial`], a child process takes the copy through the same pipeline and back first.
//!
//! All that may fail comes before *published*, and leaves no trace when it does. Nothing after it can
//! fail the swap.
//!
//! # Vocabulary
//!
//! A **host** is the process; a **plugin** is the `cdylib`; a **candidate** is a file that somebody asks to load. What
//! becomes of it is one of two: it is *refused*, with the stage and the reason, and nothing has changed; or it is
//! *published*.
//!
//! A **generation** is one published plugin, numbered from 1, a number never used twice. To publish is one atomic
//! store, after which new calls reach it. The generation before is *retired*: it **drains** until no call and no lease
//! is left on it, and is **unloaded**, which is looked up and not assumed; one that the system keeps is **pinned**,
//! with a reason. While its successor is on probation it may be kept mapped on purpose, as **standby**.
//!
//! A call happens inside [`with`](Hotswap::with), all of it on one generation. A **lease** is the same right for as
//! long as one likes: across threads, swaps and `.await`s.
//!
//! A **trial** goes through the pipeline in a child process first; a **probe** is the host's own question to a
//! candidate. A
//! **service** is a thread, and a **ref** a value, that outlives generations ([`Settings::services`]).
//!
//! For a single function of a file, without any of this, there is the [`Loader`](loader::Loader).
//!
//! # Where things are
//!
//! At the root is what most hosts name. The rest is by topic: [`event`] and [`reasons`] have the parts of events and
//! errors, [`future`] what a host awaits, [`services`] the threads and values that outlive generations, [`watch`]
//! changes of files, [`loader`] single functions, [`check`] what a deploy script asks, and [`text`] how to show what
//! comes from a plugin.
//!
//! # What outlives a swap
//!
//! With [`Settings::services`], a plugin may export an *update* (`hotswap_sdk::update!`), which is run before it is
//! published: it says which *services*, named threads, should run, and makes, takes over and migrates named values.
//! What it says is done with the publishing, or not at all; only a change inside a shared value cannot be taken back
//! (*Updates* in [`docs::plugins`]). A service keeps the code that it began with mapped until it ends, and a value the
//! code that it needs; who keeps what is listed ([`Hotswap::services`], [`Hotswap::refs`]).
//! A value is only ever used as the type that it has: what has changed is refused, with both sides of the difference.
//!
//! # Logs
//!
//! What a plugin says through `tracing` or `log` arrives at the host's subscriber of `tracing`, with the generation, if
//! the plugin was built with the features of these names of `hotswap-sdk`: see *Logs* in [`docs::plugins`]. hotswap's
//! own events have the target `hotswap`.
//!
//! # Metrics
//!
//! With the feature `metrics`, a swap point records figures for whatever recorder of the crate of that name the host
//! has installed: see *Metrics* in [`docs::deploying`].
//!
//! # Backtraces
//!
//! With the feature `backtrace`, there is a `Backtrace` that names frames in plugins by their generation. That of std
//! shows wrong names after a swap: see [`docs::debugging`].
//!
//! # What it does not do
//!
//! It is not a sandbox: see [`Trust::vouch`]. It loads plugins on Linux with glibc, and is tested there. On other
//! systems it compiles and calls built-in values ([`Hotswap::builtin`]); what would load a plugin is refused there
//! ([`ErrorKind::UnsupportedPlatform`]; *Platforms* in [`docs::stability`]). The [manual](docs) has what is too long
//! for this page.

#![deny(unsafe_code)]

// From the ground up: a file uses only those above it. (The empty lines keep rustfmt from sorting them.)

// How text from outside is written into what hotswap says.
mod escape;

// Calls of the operating system.
mod system;

// How reports show what they are made of.
mod report;

// Why a text is not what it should be.
mod parse;

// What a file's bytes are.
mod digest;

// Which calls a canary gets, and both sides, compared.
mod comparison;

// Why a candidate was refused.
mod error;

// Code of the host whose panics end where it is called.
mod contained;

// When a timeout ends.
mod deadline;

// Whether enough memory is left to go on.
mod memory;

// Starting a thread, if there is memory for it.
mod threads;

// A channel whose receiver waits on a thread, or is polled.
mod async_channel;

// Work of a thread, awaited.
mod thread_future;

// A path as somebody gave it.
mod given;

// Who has signed them.
mod signature;

// What is asked of a file before it is loaded, and the one `unsafe` statement of a host.
#[expect(unsafe_code, reason = "states what a host promises")]
mod trust;

// Whose code has crashed.
#[doc(alias("SIGSEGV", "segfault"))]
pub mod crash;

// Whose code is on the stack.
#[cfg(feature = "backtrace")]
mod backtrace;

// What was found out once.
mod cache;

// What is loaded, from here on: from a path to a private, trusted, inspected copy.
mod stage;

// Who uses what is retired.
mod holder;

// What is mapped, and its way out.
#[expect(unsafe_code, reason = "runs and reads what is mapped")]
mod image;

// Two types, compared.
mod layout;

// What somebody asks to load.
mod candidate;

// From an image to a checked root module.
#[expect(unsafe_code, reason = "takes an address in an image for a root module")]
mod module;

// What a plugin's objects keep.
mod objects;

// What plugins log.
mod logs;

// From an image to a plugin's value, or to its root module as it is.
#[expect(unsafe_code, reason = "relies on what was checked")]
mod interface;

// From an image to a typed symbol or a C symbol.
#[expect(
    unsafe_code,
    reason = "takes addresses in an image for what they are said to be"
)]
mod symbol;

// From an image to one of its exported functions.
#[expect(unsafe_code, reason = "calls what is said to be an exported function")]
mod function;

// Which values may leave a call.
#[expect(unsafe_code, reason = "states which values lead into no image")]
mod owned;

// Events, and the list of generations.
mod history;

// Values that outlive generations.
#[expect(unsafe_code, reason = "keeps values whose types were compared")]
mod refs;

// Threads that outlive generations, and what a candidate says of them.
pub mod services;

// The same pipeline in a child process first.
mod trial;

// The same pipeline for a deploy script, up to publishing.
pub mod check;

// Both columns together.
mod swap;

// Single functions, without a swap point.
#[expect(unsafe_code, reason = "takes the host's word for C symbols")]
pub mod loader;

// Settled changes of a file become swaps.
#[doc(alias("hot reload", "inotify", "reload"))]
pub mod watch;

pub use hotswap_sdk::host::{HostServices, Interface};

#[cfg(feature = "backtrace")]
pub use crate::backtrace::Backtrace;
pub use crate::{
    candidate::Candidate,
    digest::Sha256,
    error::{Error, ErrorKind, Result, Stage},
    history::{Event, EventKind, GenerationInfo, State},
    owned::{AssertHostOwned, HostOwned},
    signature::PublicKey,
    swap::{
        Bound, Generation, Hotswap, Lease, Limits, Prepared, Probe, Settings, Swapped,
        detach_current_thread,
    },
    trial::Trial,
    trust::{Policy, Trust},
};

/// Parts of an [`Event`], and of what a swap point lists: who holds a generation, why it is pinned, how long a swap
/// took, what a rollback did.
pub mod event {
    pub use crate::{
        history::Phases,
        holder::Holder,
        image::{HeapLeft, OldLibrary, PinReason},
        swap::RolledBack,
    };
}

/// A candidate on live calls, beside the live generation: [`Prepared::start_canary`] begins one.
pub mod canary {
    pub use crate::{
        comparison::{Figures, Rule, Share, Step},
        swap::{Canary, Choice, ChoiceFuture, Decision, Progress, Rollout, Side},
    };
}

/// What a host awaits.
pub mod future {
    pub use crate::{
        history::EventStream,
        swap::{CallFuture, ShutdownFuture, WaitFuture},
        thread_future::ThreadFuture,
    };
}

/// Parts of an [`ErrorKind`], why a [`call`](Hotswap::call) gave no answer, and why a text is no [`Sha256`] or
/// [`PublicKey`].
pub mod reasons {
    pub use hotswap_sdk::host::{Fault, FaultKind};

    pub use crate::{
        error::{Distrust, SignatureProblem, SystemError},
        parse::ParseError,
    };
}

/// How to show text that comes from a plugin, a path or a file on a terminal.
pub mod text {
    pub use hotswap_sdk::{one_line, printable};
}

/// README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}

/// The manual, in the order in which most readers need its pages.
///
/// To begin:
///
/// - [`tutorial`](docs::tutorial): from an empty folder to a live swap.
/// - [`cookbook`](docs::cookbook): one question, one answer: state, async, axum, tests, Docker, systemd.
/// - [`traits`](docs::traits): what an interface, a plugin and a host are made of, and how they are tested.
/// - [`evolution`](docs::evolution): changing the interface, and what older and newer sides make of each other.
/// - [`plugins`](docs::plugins): plugins that unload; threads, updates, runtimes, logs.
/// - [`async_hosts`](docs::async_hosts): swaps, waits and events on an executor, and what dropping a future does.
///
/// In production:
///
/// - [`deploying`](docs::deploying): owners, checks, links, watching, metrics, systemd, Kubernetes, many machines.
/// - [`canary`](docs::canary): a candidate on a share of the live calls, and what promotes or abandons it.
/// - [`troubleshooting`](docs::troubleshooting): messages, and what to do.
/// - [`debugging`](docs::debugging): backtraces, gdb, lldb, core dumps, perf.
/// - [`stability`](docs::stability): what may break, platforms, features.
///
/// For other needs:
///
/// - [`functions`](docs::functions): a single function of a file, without an interface.
/// - [`websocket`](docs::websocket): the example of a websocket server.
/// - [`root_modules`](docs::root_modules): an interface that is an abi_stable root module of one's own.
/// - [`comparison`](docs::comparison): the alternatives, and when they are the better choice.
/// - [`benchmarks`](docs::benchmarks): what calls and swaps cost, beside the alternatives.
///
/// About hotswap itself:
///
/// - [`design`](docs::design): why it is as it is.
/// - [`architecture`](docs::architecture): which module does what, and where a change belongs.
/// - [`testing`](docs::testing): what each test suite can find, and what it costs.
pub mod docs {
    #[doc = include_str!("../docs/tutorial.md")]
    #[doc(alias("example", "getting started", "manual", "quickstart"))]
    pub mod tutorial {}

    #[doc = include_str!("../docs/cookbook/index.md")]
    pub mod cookbook {
        #[doc = include_str!("../docs/cookbook/code.md")]
        #[doc(alias(
            "actix",
            "axum",
            "database",
            "error type",
            "instances",
            "keep state",
            "logging",
            "prometheus",
            "several plugins",
            "state",
            "tonic"
        ))]
        pub mod code {}

        #[doc = include_str!("../docs/cookbook/develop.md")]
        #[doc(alias(
            "CI",
            "compiler",
            "gdb",
            "lldb",
            "mock",
            "profile",
            "release build",
            "rustc",
            "test",
            "toolchain",
            "unit test"
        ))]
        pub mod develop {}

        #[doc = include_str!("../docs/cookbook/deploy.md")]
        #[doc(alias(
            "aarch64",
            "cross-compile",
            "docker",
            "kubernetes",
            "minisign",
            "rsync",
            "scp",
            "SIGHUP",
            "sign",
            "systemd"
        ))]
        pub mod deploy {}
    }

    #[doc = include_str!("../docs/traits.md")]
    #[doc(alias(
        "callback",
        "closure",
        "collection",
        "enum",
        "generic",
        "HashMap",
        "interface",
        "mutex",
        "trait"
    ))]
    pub mod traits {}

    #[doc = include_str!("../docs/evolution.md")]
    #[doc(alias("compatible", "field", "layout", "variant", "version mismatch"))]
    pub mod evolution {}

    #[doc = include_str!("../docs/plugins.md")]
    #[doc(alias(
        "allocator",
        "dlclose",
        "env_logger",
        "leak",
        "log",
        "logging",
        "memory leak",
        "panic",
        "println",
        "runtime",
        "thread_local",
        "TLS",
        "tracing",
        "unload"
    ))]
    pub mod plugins {}

    #[doc = include_str!("../docs/async-hosts.md")]
    #[doc(alias("async", "executor", "tokio"))]
    pub mod async_hosts {}

    #[doc = include_str!("../docs/deploying.md")]
    #[doc(alias("fleet", "metrics", "prometheus", "rollback", "zero downtime"))]
    pub mod deploying {}

    #[doc = include_str!("../docs/canary.md")]
    #[doc(alias("A/B", "gradual rollout", "traffic splitting"))]
    pub mod canary {}

    #[doc = include_str!("../docs/fleet.md")]
    #[doc(alias("JetStream", "NATS", "rollout", "xDS"))]
    pub mod fleet {}

    #[doc = include_str!("../docs/troubleshooting.md")]
    pub mod troubleshooting {}

    #[doc = include_str!("../docs/debugging.md")]
    #[doc(alias("backtrace", "core dump", "gdb", "lldb", "perf", "profiler"))]
    pub mod debugging {}

    #[doc = include_str!("../docs/stability.md")]
    #[doc(alias("macos", "musl", "platform", "semver", "windows"))]
    pub mod stability {}

    #[doc = include_str!("../docs/functions.md")]
    pub mod functions {}

    #[doc = include_str!("../docs/websocket.md")]
    pub mod websocket {}

    #[doc = include_str!("../docs/root-modules.md")]
    pub mod root_modules {}

    #[doc = include_str!("../docs/comparison.md")]
    #[doc(alias("alternatives", "hot-lib-reloader", "restart", "subsecond"))]
    pub mod comparison {}

    #[doc = include_str!("../docs/benchmarks.md")]
    #[doc = include_str!("../docs/calls.svg")]
    #[doc(alias("overhead", "performance", "speed"))]
    pub mod benchmarks {}

    #[doc = include_str!("../docs/design.md")]
    pub mod design {}

    #[doc = include_str!("../docs/architecture.md")]
    pub mod architecture {}

    #[doc = include_str!("../docs/testing.md")]
    pub mod testing {}
}
