//! A trial: a child process first loads the very same bytes, probes them and unloads them.
//!
//! Nobody can tell from a file's bytes what happens when its code runs: initialisers, IFUNC resolvers, the libraries
//! that it needs, the constructor of its root module, its answers, its finalisers. And if that goes wrong, nothing in
//! the process can repair it: a handler that jumps out of a crash inside `dlopen` leaves the linker's lock taken for
//! ever. So a trial lets it go wrong in another process.
//!
//! # Invariants
//! - The child is a new program (`posix_spawn` of this executable), not a copy of this process. So it costs the same
//!   however much memory the host has, and it has no threads, no locks that another thread holds, and none of the
//!   host's connections and files.
//! - The host passes the descriptor of the sealed copy, so the bytes on trial are the bytes that are loaded.
//! - A good exit status proves nothing, since a plugin can call `exit(0)`. A trial is passed when the child has said
//!   that it has finished, has returned a token that the host sent only after that, and has then ended with a good
//!   status.
//! - [`Trial::at_top_of_main`] is safe to call although it runs a plugin's code, because the host that started the
//!   child has vouched for the file ([`Trust::vouch`](crate::Trust::vouch)). It refuses to run where somebody else
//!   could start this program with more privileges than their own.
//!
//! [`report`] has the messages between the two processes, [`child`] and [`parent`] the two sides.

mod report;

#[expect(unsafe_code, reason = "closes what a child has inherited")]
mod child;
mod parent;

use std::{
    any, env,
    ffi::OsStr,
    fmt,
    marker::PhantomData,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use hotswap_elf::Export;
use hotswap_sdk::host::{Fault, HostServices, Interface};

pub(crate) use self::report::{Findings, FoundUpdate};
use crate::{
    error::{Error, ErrorKind, Result, Stage},
    image::Image,
    interface, module,
    stage::Staged,
};

/// The name (`argv[0]`) of the child process, from which it knows that it is one.
const NAME: &str = "hotswap-trial";

/// Shows that this program's `main` can run trials. Set it as [`Settings::trial`](crate::Settings::trial).
///
/// Every candidate is then loaded in a child process first: its initialisers run, its types are checked, the probe
/// calls it, and it is unloaded. If the child crashes, hangs, ends early or leaves descriptors open, or if the probe
/// rejects an answer, the candidate is refused. The refusal names the stage and, for example, the signal. This
/// process has not run a single instruction of the candidate then.
///
/// A trial protects against accidents, not against malice: it is easy to write code that behaves in the child and
/// misbehaves here.
///
/// # Cost
///
/// Starting this executable up to the call in its `main`, some 2 ms whatever the memory of this process, plus what a
/// load costs. Only the caller who asked for the swap waits for it.
pub struct Trial<M: ?Sized> {
    of: PhantomData<fn(&M)>,
    timeout: Duration,
}

/// The timeout of a trial unless the host sets one.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Checks an opened candidate, and returns it with the version of its interface. It reports each stage before it
/// begins.
pub(crate) type Ask<'a> =
    dyn Fn(Image, &dyn Fn(Stage) -> Result<()>) -> Result<(Image, String)> + Sync + 'a;

/// The result of a passed trial.
pub(crate) struct Tried {
    pub(crate) duration: Duration,
    pub(crate) findings: Findings,
}

impl<I: Interface + ?Sized> Trial<I> {
    /// Lets this program run trials, in which `probe` checks the candidate.
    ///
    /// Call it at the top of `main`, before arguments are parsed, threads are started, or files are opened. In a
    /// trial's child process, which is this program started anew, this call runs the trial and **does not return**. A
    /// program with several interfaces calls it once for each. A program with an async runtime calls it first, in a
    /// `main` that is not async, and starts the runtime afterwards.
    ///
    /// The probe calls what the host will call, and compares the answers with those that it expects. It runs in the
    /// child, on a thread of its own, and knows nothing of the host's state.
    ///
    /// The child has the environment, the working directory and the limits ([`setrlimit(2)`]) of the host, but none
    /// of its arguments and descriptors. Its standard input is empty, its standard output leads nowhere, and the last
    /// line of its standard error becomes part of the refusal. It writes no core dump. If a sandbox denies it a call
    /// that it needs for that, the candidate is refused, and the refusal names the call. A host that was started by way
    /// of the dynamic linker (`ld.so HOST`) does not find its own file, so each candidate is refused.
    ///
    /// When the trial's time is over ([`with_timeout`](Self::with_timeout)), the host kills the child and the
    /// processes of its group; if the host dies, the system kills the child. A process that a candidate started and
    /// that has left the group, as a daemon does (`setsid`, `setpgid`), is not found and goes on. The child refuses
    /// to run in a program that has privileges of its own (setuid, or capabilities of its file).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use hotswap_core::{Hotswap, Policy, Settings, Trial, Trust};
    /// use hotswap_types::Plugin;
    ///
    /// fn main() -> Result<(), hotswap_core::Error> {
    ///     let trial: Trial<dyn Plugin> = Trial::at_top_of_main(probe);
    ///
    ///     // SAFETY: we build these plugins ourselves, and nobody else can write to that folder.
    ///     let trust = unsafe { Trust::vouch(Policy::default()) };
    ///     let settings = Settings { trial: Some(trial), ..Settings::default() };
    ///     let plugin = Hotswap::load_with("./plugins/libplugin.so", &trust, settings)?;
    /// #   drop(plugin);
    ///     Ok(())
    /// }
    ///
    /// fn probe(plugin: &dyn Plugin) -> Result<(), String> {
    ///     match plugin.process("hi")?.as_str() {
    ///         "" => Err("no answer to 'hi'".to_owned()),
    ///         _ => Ok(()),
    ///     }
    /// }
    /// ```
    ///
    /// [`setrlimit(2)`]: https://man7.org/linux/man-pages/man2/setrlimit.2.html
    pub fn at_top_of_main(probe: fn(&I) -> Result<(), String>) -> Self {
        Self::at_top_of_main_with(HostServices::new, probe)
    }

    /// Like [`at_top_of_main`](Self::at_top_of_main), for plugins whose constructors take services of the host.
    ///
    /// `services` is called once, in the child alone, and gives the plugin what it is to find there: the host's own
    /// services as far as they work without its state, and stand-ins for the others. A plugin that takes any other is
    /// refused.
    pub fn at_top_of_main_with(
        services: fn() -> HostServices,
        probe: fn(&I) -> Result<(), String>,
    ) -> Self {
        // For all images of the child: what they have open is not the candidate's.
        let made = OnceLock::new();
        Self::or_child(module::EXPORT, &|image, reached| {
            reached(Stage::Layout)?;
            let checked = interface::check::<I>(&image)?;
            reached(Stage::Root)?;
            let opened = checked.open(made.get_or_init(services), &Arc::from("trial"))?;
            reached(Stage::Probe)?;
            opened.objects.begin_probe();
            let answer = ask(|| {
                probe(I::as_interface(&opened.live))?;
                interface::check_objects(&opened.objects)
            });
            answer.map_err(refused)?;
            Ok((image, opened.version))
        })
    }
}

impl<M: ?Sized> Trial<M> {
    /// In a child that is to try an `M`: opens the candidate, runs `question` on it, and does not return.
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

    /// The same trial with another timeout. A trial that takes longer is ended: the candidate is refused, and the
    /// child is killed. 10 s unless set.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The name from which a child knows which of several trials to run.
    fn interface() -> &'static str {
        any::type_name::<M>()
    }

    /// Loads the copy in a child process.
    ///
    /// # Errors
    ///
    /// What the child found wrong with the candidate, or how the child died.
    pub(crate) fn run(self, staged: &Staged) -> Result<Tried> {
        parent::run(staged, Self::interface(), self.timeout)
    }
}

/// Calls a host's probe. A panic counts as a rejection; so does a fault of the candidate, which panics in a method of a
/// trait.
pub(crate) fn ask(
    probe: impl FnOnce() -> std::result::Result<(), String>,
) -> std::result::Result<(), ErrorKind> {
    // Unwind-safe: as after any caught panic, the host has to repair what its probe left broken.
    let payload = match panic::catch_unwind(AssertUnwindSafe(probe)) {
        Ok(answer) => return answer.map_err(|reason| ErrorKind::Probe { reason }),
        Err(payload) => payload,
    };
    if let Some(fault) = payload.downcast_ref::<Fault>() {
        let reason = fault.to_string();
        return Err(ErrorKind::Probe { reason });
    }
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    Err(ErrorKind::Panicked {
        stage: Stage::Probe,
        message: Some(text.unwrap_or("without a text").to_owned()),
    })
}

/// A refusal in a child. Its path is empty, because the host fills in the real one.
pub(crate) fn refused(kind: ErrorKind) -> Error {
    Error::new(Path::new(""), kind)
}

impl<M: ?Sized> Clone for Trial<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: ?Sized> Copy for Trial<M> {}

impl<M: ?Sized> fmt::Debug for Trial<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trial<{}>", any::type_name::<M>())
    }
}
