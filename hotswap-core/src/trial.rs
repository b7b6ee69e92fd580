//! A trial: the very same bytes are loaded in a child process first, and asked, and unloaded.
//!
//! What a file does when its code runs (initialisers, IFUNC resolvers, the libraries that it needs, the
//! constructor of its root module, its answers, its finalisers) nobody can tell from its bytes, and nothing
//! in a process survives it if it goes wrong: a handler that jumps out of a crash inside `dlopen` leaves
//! the linker's lock taken for ever. So it goes wrong in another process.
//!
//! # Invariants
//! - The child is a new program (`posix_spawn` of this executable), not a copy of this process: it costs the
//!   same however much memory the host has, and it has no threads, no locks that another thread holds, no
//!   connection and no file of the host's.
//! - It is given the descriptor of the sealed copy, so that what is tried is what is loaded.
//! - That a child has ended well proves nothing: a plugin can call `exit(0)`. A trial has passed when the child
//!   has said so and has then sent back a token, which it is given only after that; and when it has ended
//!   well after that.
//! - [`Trial::at_top_of_main`] is safe to call although it runs a plugin's code: what the child is given
//!   was vouched for by the host that has started it ([`Trust::vouch`](crate::Trust::vouch)). Where somebody
//!   else could start it with more privileges than their own, it refuses.
//!
//! One noun a file: [`report`] what the two say to each other, [`descriptors`] what a process has open,
//! [`child`] what the child does, [`parent`] what the host makes of it.

#[expect(unsafe_code, reason = "closes what a child has inherited")]
mod descriptors;
mod report;

mod child;
mod parent;

use std::{
    any, env,
    ffi::OsStr,
    fmt,
    marker::PhantomData,
    panic::{self, AssertUnwindSafe},
    path::Path,
    time::Duration,
};

use abi_stable::library::RootModule;
use hotswap_elf::Export;

pub(crate) use self::report::{Findings, FoundUpdate};
use crate::{
    error::{Error, ErrorKind, PROBE, Result, Stage, panicked},
    image::Image,
    module,
    stage::Staged,
};

/// What the child process is called, by which it knows that it is one.
const NAME: &str = "hotswap-trial";

/// The proof that this program's `main` can run trials. It belongs into
/// [`Settings::trial`](crate::Settings::trial).
///
/// Then every candidate is loaded in a child process first: its initialisers run, its types are checked, the
/// probe asks it something, and it is unloaded. If the child crashes, hangs, ends, leaves descriptors open,
/// or the probe does not like the answer, the candidate is refused with the stage and, say, the signal, and
/// this process has not run a single instruction of it.
///
/// It protects against accidents, not against malice: code that behaves in the child and misbehaves here
/// is easily written.
///
/// # Cost
///
/// The start of this executable up to the call in its `main`, some 2 ms, whatever the memory of this process,
/// and then what a load costs. Nobody waits for it but the one who has asked for the swap.
pub struct Trial<M> {
    of: PhantomData<fn(&M)>,
    timeout: Duration,
}

/// How long a trial may take unless the host says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is asked of an opened candidate, which is given back together with the version of its interface. Each
/// stage is reported before it begins.
pub(crate) type Ask<'a> =
    dyn Fn(Image, &dyn Fn(Stage) -> Result<()>) -> Result<(Image, String)> + Sync + 'a;

/// A trial that was passed.
pub(crate) struct Tried {
    pub(crate) took: Duration,
    pub(crate) findings: Findings,
}

impl<M: RootModule> Trial<M> {
    /// Lets this program run trials, with `probe` to ask the candidate.
    ///
    /// Call it at the top of `main`, before arguments are parsed, threads are started, or files are opened:
    /// in a trial's child process, which is this program started anew, this call does the trial and **does
    /// not return**. A program with several interfaces calls it once for each; one with an async runtime
    /// starts that after it, in a `main` that is not async.
    ///
    /// The probe calls what the host will call, and compares the answers with those that it expects. It runs
    /// in the child, on a thread of its own, and knows nothing of the host's state.
    ///
    /// The child has the environment, the working directory and the limits ([`setrlimit(2)`]) of the host. It
    /// has none of its arguments and descriptors, nothing to read on standard input, a standard output that
    /// leads nowhere, and a standard error of which the last line becomes part of the refusal. It writes no
    /// core dump. Where a sandbox denies it a call that it needs for that, the candidate is refused, and the refusal names
    /// the call. It is killed when the trial's time is over ([`with_timeout`](Self::with_timeout)), with the processes of its group, and by itself when
    /// the host dies. A process that a candidate has started and that has left the group, as a daemon does (`setsid`,
    /// `setpgid`), is not found: it goes on. The child does not run in a program that has privileges of its own (setuid,
    /// or capabilities of its file).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use hotswap_core::{Hotswap, Policy, Settings, Trial, Trust};
    /// use hotswap_types::PluginRef;
    ///
    /// fn main() -> Result<(), hotswap_core::Error> {
    ///     let trial: Trial<PluginRef> = Trial::at_top_of_main(probe);
    ///
    ///     // SAFETY: we build these plugins ourselves, and nobody else can write to that folder.
    ///     let trust = unsafe { Trust::vouch(Policy::default()) };
    ///     let settings = Settings { trial: Some(trial), ..Settings::default() };
    ///     let plugin = Hotswap::load_with("./plugins/libplugin.so", &trust, settings)?;
    /// #   drop(plugin);
    ///     Ok(())
    /// }
    ///
    /// fn probe(plugin: &PluginRef) -> Result<(), String> {
    ///     let answer = plugin.process()("hi".into()).into_result().map_err(|fault| fault.to_string())?;
    ///     match answer.as_str() {
    ///         "" => Err("no answer to 'hi'".to_owned()),
    ///         _ => Ok(()),
    ///     }
    /// }
    /// ```
    ///
    /// [`setrlimit(2)`]: https://man7.org/linux/man-pages/man2/setrlimit.2.html
    pub fn at_top_of_main(probe: fn(&M) -> Result<(), String>) -> Self {
        Self::or_child(module::EXPORT, &|image, reached| {
            reached(Stage::Layout)?;
            let checked = module::check::<M>(&image)?;
            let interface = checked.version();
            reached(Stage::Root)?;
            let module = checked.root_module()?;
            reached(Stage::Probe)?;
            ask(|| probe(&module))?;
            Ok((image, interface))
        })
    }
}

impl<M> Trial<M> {
    /// In a child that is to try an `M`, opens the candidate, has `question` asked of it, and does not return.
    pub(crate) fn or_child(export: Export<'_>, question: &Ask<'_>) -> Self {
        let mut arguments = env::args_os();
        let is_child = arguments.next().is_some_and(|name| name == NAME)
            && arguments.next().as_deref() == Some(OsStr::new(Self::interface()));
        if is_child {
            child::run(export, question);
        }
        Self {
            of: PhantomData,
            timeout: TIMEOUT,
        }
    }

    /// The same trial, which may take so long, all in all, before the candidate is refused and the child is killed. 10 s
    /// unless set.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// By this a child knows which of several trials it is to run.
    fn interface() -> &'static str {
        any::type_name::<M>()
    }

    /// Loads the copy in a child process.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with it there.
    pub(crate) fn run(self, staged: &Staged) -> Result<Tried> {
        parent::run(staged, Self::interface(), self.timeout)
    }
}

/// Calls a host's probe; its panic is an answer too.
pub(crate) fn ask(probe: impl FnOnce() -> std::result::Result<(), String>) -> Result<()> {
    let kind = match panic::catch_unwind(AssertUnwindSafe(probe)) {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(reason)) => ErrorKind::Probe { reason },
        Err(panic) => panicked(Stage::Probe, PROBE, &*panic),
    };
    Err(Error::new(candidate(), kind))
}

/// In a child: the host knows the path.
fn candidate() -> &'static Path {
    Path::new("")
}

impl<M> Clone for Trial<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Trial<M> {}

impl<M> fmt::Debug for Trial<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trial<{}>", any::type_name::<M>())
    }
}
