//! The code of the subjects: the processes that candidates may kill.
//!
//! A request is one line: the operation, and the path of a candidate in hexadecimal, because a path may contain any
//! byte. An answer is one line too: the answers of both exports of the live generation, and the candidate's outcome.

use std::{
    error::Error,
    ffi::OsString,
    io::{self, BufRead},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    time::Duration,
};

use hotswap_core::{Hotswap, Policy, Settings, State, Trial, Trust, crash};
use hotswap_fixtures::FixtureRef;
use libloading::os::unix::{Library, RTLD_NOW};

/// How long a generation may take to leave. The host waits for it, so that a crash during unloading counts for the
/// case that caused it.
const UNLOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// What a host does after it has accepted a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterSwap {
    /// Swaps back to the plugin that it started with, and waits until the candidate has left.
    GoBack,
    /// Keeps the candidate.
    Stay,
}

/// Opens the file whose path comes on stdin, and closes it at once.
pub(crate) fn plain() -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let (_, path) = decode(line.trim_end())?;
    #[expect(
        clippy::disallowed_methods,
        reason = "this is what happens without hotswap"
    )]
    // SAFETY: nothing guarantees that the file is sound. This process exists to be killed by what it opens.
    let opened = unsafe { Library::open(Some(path), RTLD_NOW) };
    match opened {
        Ok(_) => println!("accepted"),
        Err(error) => println!("refused {}", one_line(&error)),
    }
    Ok(())
}

/// The probe of a trial: asks a candidate for its build number, in the process that tries it.
pub(crate) fn probe(plugin: &FixtureRef) -> Result<(), String> {
    let (a, b) = (plugin.build_a()(), plugin.build_b()());
    if a == b && (1..=30).contains(&a) {
        return Ok(());
    }
    Err(format!(
        "its exports say that it is build {a} and build {b}"
    ))
}

/// Loads `good`, and swaps in the candidates of the requests.
pub(crate) fn host(good: &Path, trial: Option<Trial<FixtureRef>>) -> Result<(), Box<dyn Error>> {
    let policy = Policy {
        // The owner of the checked-out folder counts as trusted.
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: the promise is deliberately broken. This process exists to be killed; the test is how well hotswap
    // protects it all the same.
    let trust = unsafe { Trust::vouch(policy) };
    let settings = Settings {
        trial: trial.map(|it| it.with_timeout(Duration::from_secs(2))),
        ..Settings::default()
    };
    let it: Hotswap<FixtureRef> = Hotswap::load_with(good, &trust, settings)?;
    crash::install_handler()?;
    println!("ready");
    for line in io::stdin().lock().lines() {
        let (then, path) = decode(&line?)?;
        let swapped = it.swap(&path);
        let (a, b) = it.with(|it| (it.build_a()(), it.build_b()()));
        let outcome = match swapped {
            Err(error) => format!("refused {}", error.reason()),
            Ok(_) if then == AfterSwap::Stay => "accepted".to_owned(),
            Ok(_) => match it.swap(good) {
                Err(error) => format!("cannot be replaced: {}", error.reason()),
                Ok(back) => match it.wait(back.retired, UNLOAD_TIMEOUT) {
                    Some(State::Draining { .. }) => "stays".to_owned(),
                    _ => "accepted".to_owned(),
                },
            },
        };
        println!("{a} {b} {outcome}");
    }
    it.shutdown(UNLOAD_TIMEOUT);
    Ok(())
}

/// Writes a request as a line.
pub(crate) fn encode(then: AfterSwap, path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{then:?} {digits}")
}

fn decode(line: &str) -> Result<(AfterSwap, PathBuf), Box<dyn Error>> {
    let (then, digits) = line.split_once(' ').ok_or("no request")?;
    let then = [AfterSwap::GoBack, AfterSwap::Stay]
        .into_iter()
        .find(|it| format!("{it:?}") == then)
        .ok_or("no such request")?;
    let pairs = digits.as_bytes().chunks(2).map(str::from_utf8);
    let bytes: Result<Vec<u8>, Box<dyn Error>> = pairs
        .map(|pair| Ok(u8::from_str_radix(pair?, 16)?))
        .collect();
    Ok((then, OsString::from_vec(bytes?).into()))
}

fn one_line(error: &dyn Error) -> String {
    let cause = error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string);
    cause.escape_debug().to_string()
}
