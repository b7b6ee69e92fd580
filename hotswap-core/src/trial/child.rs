//! The child's side of a trial: it passes the candidate through the pipeline, and unloads it again.
//!
//! It reports each stage before the stage begins, so that the host knows where a child has died.

use std::{
    env,
    fs::File,
    io, process, thread,
    time::{Duration, Instant},
};

use hotswap_elf::Export;
use hotswap_sdk::Config;

use super::{
    Ask, NAME, refused,
    report::{Findings, FoundUpdate, MESSAGE_BYTES_MAX, Report, Token},
};
use crate::{
    error::{Error, ErrorKind, Result, Stage},
    image::{Exit, Image, Leaving, Opener},
    report::List,
    services,
    stage::{Needed, Staged},
    system::{
        child::{
            end_with_parent, nowhere, redirect_standard_streams, standard_streams,
            write_no_core_dumps,
        },
        connection::{Connection, send_by_stdout},
        descriptors::{DescriptorChange, Open, close_all_but},
        memory_file,
        users::is_privileged,
    },
    trust::Policy,
};

/// How long the child waits for the candidate to be unloaded. A candidate that takes longer is not refused: threads
/// of its own may take their time, and some plugins stay mapped for good.
const UNLOAD_TIME: Duration = Duration::from_millis(500);
const UNLOAD_PAUSE: Duration = Duration::from_micros(100);

/// The main function of the child.
pub(super) fn run(export: Export<'_>, ask: &Ask<'_>) -> ! {
    let ended = match Child::set_up() {
        Ok(child) => child.run(export, ask),
        Err(error) => refuse_to_begin(error),
    };
    process::exit(match ended {
        Ok(()) => 0,
        Err(error) => {
            eprintln!(
                "{NAME}: {error} (it is started by a host, and needs what the host gives it)"
            );
            1
        }
    })
}

/// Tells the host why there is no trial. Returns the error if no host listens.
fn refuse_to_begin(error: io::Error) -> io::Result<()> {
    let message = format!("it cannot begin: {error}");
    let kind = ErrorKind::RefusedInTrial {
        stage: Stage::Trial,
        reason: message,
    };
    let report = Report::from(&refused(kind));
    send_by_stdout(&report.encode()).map_err(|_| error)
}

struct Child {
    /// The sealed copy of the candidate.
    copy: File,
    /// The connection to the host.
    control: Connection,
    /// The configuration that the plugin gets.
    config: Config,
}

impl Child {
    /// Takes the copy and the connection, which the host has passed as standard input and output, and closes all
    /// else.
    fn set_up() -> io::Result<Self> {
        // Otherwise whoever can start a program with privileges of its own could run any code with those privileges
        // here.
        if is_privileged() {
            let what =
                "not in a program with privileges of its own (setuid, or capabilities of the file)";
            return Err(io::Error::other(what));
        }
        end_with_parent().map_err(when("the system does not let it end with its host (prctl)"))?;
        write_no_core_dumps().map_err(when(
            "the system does not let it limit its core dumps (prlimit)",
        ))?;
        let streams = "its standard streams";
        let (copy, control) = standard_streams().map_err(when(streams))?;
        // SAFETY: this runs at the top of `main` in a new process: its other descriptors were inherited, and nothing
        // in this process owns or uses them.
        unsafe { close_all_but(&copy, &control) }?;
        // Last: until then, standard output leads to the host, which hears there of what has failed.
        redirect_standard_streams(&nowhere()?).map_err(when(streams))?;
        Ok(Self {
            copy,
            control,
            config: Config::default(),
        })
    }

    fn run(mut self, export: Export<'_>, ask: &Ask<'_>) -> io::Result<()> {
        // If the host is gone already, this fails.
        self.say(&Report::Reached(Stage::Trial))?;
        self.receive_config()?;
        match self.try_out(export, ask) {
            Ok(findings) => self.finish(findings),
            Err(error) => self.say(&Report::from(&error)),
        }
    }

    fn receive_config(&mut self) -> io::Result<()> {
        let mut config = Vec::new();
        let mut message = vec![0; MESSAGE_BYTES_MAX];
        loop {
            let received = self.control.receive(&mut message)?;
            let Some((is_last, part)) = message[..received].split_first() else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            config.extend(part);
            if *is_last != 0 {
                break;
            }
            self.say(&Report::NextPart)?;
        }
        self.config = config.into();
        Ok(())
    }

    /// Loads, probes and unloads the candidate. If that leaves descriptors open, it does so a second time: what is
    /// opened once for the whole process, by a library for example, does no harm.
    fn try_out(&self, export: Export<'_>, ask: &Ask<'_>) -> Result<Findings> {
        let name = memory_file::name(&self.copy).map_err(host_error)?;
        // Without copies of the candidate, which all have this name: an image that stays mapped keeps its own.
        let open_now = || Open::now(&name).map_err(host_error);
        let before = open_now()?;
        let findings = self.load_and_unload(export, ask, Self::given)?;
        let after = open_now()?;
        match before.change(&after) {
            None => return Ok(findings),
            Some(DescriptorChange::Lost(which)) => return Err(refusal(true, which)),
            Some(DescriptorChange::Gained(_)) => {}
        }
        self.load_and_unload(export, ask, Self::another)?;
        match after.change(&open_now()?) {
            None => Ok(findings),
            Some(DescriptorChange::Lost(which)) => Err(refusal(true, which)),
            Some(DescriptorChange::Gained(which)) => Err(refusal(false, which)),
        }
    }

    fn load_and_unload(
        &self,
        export: Export<'_>,
        ask: &Ask<'_>,
        copy: fn(&Self, Export<'_>) -> Result<Staged>,
    ) -> Result<Findings> {
        let opener = Opener::start().map_err(host_error)?;
        let load = || {
            let staged = copy(self, export)?;
            self.reached(Stage::Link)?;
            let image = Image::open(staged, &opener, &Policy::default())?;
            ask(image, &|stage| self.reached(stage))
        };
        let (image, interface) = opener.run(load)?;
        drop(opener);
        let (package, unloadable_problem) = (image.package(), image.unloadable_problem());
        self.reached(Stage::Symbol)?;
        let update = match services::find_update(&image) {
            Ok(None) => FoundUpdate::None,
            Ok(Some(_)) => FoundUpdate::Good,
            Err(error) => FoundUpdate::Bad(error.reason()),
        };
        self.reached(Stage::Unload)?;
        Ok(Findings {
            interface,
            package,
            unloadable_problem,
            update,
            stays: unload(image.retire()),
        })
    }

    /// The copy that the host has made, and the libraries that it has found.
    fn given(&self, export: Export<'_>) -> Result<Staged> {
        let copy = self.copy.try_clone().map_err(host_error)?;
        let mut staged = Staged::from_sealed(copy, export)?;
        staged.set_config(self.config.clone());
        staged.set_libraries(libraries());
        Ok(staged)
    }

    /// A copy of that copy. If the first image is still mapped, the dynamic linker would return it for the same file.
    fn another(&self, export: Export<'_>) -> Result<Staged> {
        let kept = self.given(export)?.keep().map_err(host_error)?;
        let (mut staged, _) = Staged::again(&kept, export)?;
        staged.set_libraries(libraries());
        Ok(staged)
    }

    fn reached(&self, stage: Stage) -> Result<()> {
        self.say(&Report::Reached(stage)).map_err(host_error)
    }

    /// Reports that the trial has finished, and returns the token that the host sends only after that report.
    fn finish(&self, findings: Findings) -> io::Result<()> {
        self.say(&Report::Finished(findings))?;
        let mut token = Token::default();
        let received = self.control.receive(&mut token)?;
        if received != token.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.say(&Report::Token(token))
    }

    fn say(&self, report: &Report) -> io::Result<()> {
        self.control.send(&report.encode())
    }
}

/// The libraries to open first. Their names and paths follow the child's own name, the interface and the candidate's
/// path in the arguments.
fn libraries() -> Vec<Needed> {
    let mut arguments = env::args_os().skip(3);
    let mut all = Vec::new();
    while let (Some(name), Some(path)) = (arguments.next(), arguments.next()) {
        let name = name.to_string_lossy().into_owned();
        all.push(Needed::first(name, path.into()));
    }
    all
}

/// Waits a while for the image to be unloaded, and returns why it is not. The purpose is to find crashes and hangs.
fn unload(image: Leaving) -> Option<String> {
    let started = Instant::now();
    let mut leaving = Box::new(image);
    while started.elapsed() < UNLOAD_TIME {
        // The host reports a panic of the hook as an event, not as a reason to refuse.
        drop(leaving.hook_panic());
        match leaving.try_close() {
            Exit::Gone(_) => return None,
            Exit::Pinned(image) => return Some(image.why().to_string()),
            Exit::NotYet(image) => leaving = image,
        }
        thread::sleep(UNLOAD_PAUSE);
    }
    Some(format!("held by {}", List(&leaving.obstacles())))
}

fn refusal(are_lost: bool, which: Vec<String>) -> Error {
    refused(ErrorKind::Descriptors { are_lost, which })
}

/// Prefixes an error with what failed.
fn when(what: &str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn host_error(error: io::Error) -> Error {
    refused(ErrorKind::trial(None, error))
}
