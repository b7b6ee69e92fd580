//! The subjects' own side: what a process does that is to be killed.
//!
//! A request is a line: what to do, and the path of a candidate in hexadecimal, because a path may hold any
//! byte. An answer is a line too: what both exports of the live generation say, and what became of the
//! candidate.

use std::{
    error::Error,
    ffi::OsString,
    io::{self, BufRead},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    time::Duration,
};

use hotswap_core::{Hotswap, Policy, Settings, State, Trial, Trust};
use hotswap_fixtures::FixtureRef;
use libloading::os::unix::{Library, RTLD_NOW};

use crate::crash;

/// How long a generation may take to leave. It is waited for so that what its unloading does is seen in the
/// case that it belongs to.
const LEAVING: Duration = Duration::from_secs(5);

/// What a host does with a candidate that it has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It goes back to the plugin that it started with, and waits until the candidate has left.
    GoBack,
    /// It stays with it.
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
    // SAFETY: there is no promise to rely on: this process is there to be killed by what it opens.
    let opened = unsafe { Library::open(Some(path), RTLD_NOW) };
    match opened {
        Ok(_) => println!("accepted"),
        Err(error) => println!("refused {}", one_line(&error)),
    }
    Ok(())
}

/// Asks a candidate what it is, in the process that tries it.
pub(crate) fn probe(plugin: &FixtureRef) -> Result<(), String> {
    let (a, b) = (plugin.build_a()(), plugin.build_b()());
    if a == b && (1..=30).contains(&a) {
        return Ok(());
    }
    Err(format!(
        "its exports say that it is build {a} and build {b}"
    ))
}

/// Loads `good`, and swaps in whatever it is told.
pub(crate) fn host(good: &Path, trial: Option<Trial<FixtureRef>>) -> Result<(), Box<dyn Error>> {
    let policy = Policy {
        // Whoever owns the folder that this was checked out into.
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: the promise is not kept: this process is there to be killed, and it is tested how far one comes without.
    let trust = unsafe { Trust::vouch(policy) };
    let settings = Settings {
        trial: trial.map(|it| it.with_timeout(Duration::from_secs(2))),
        ..Settings::default()
    };
    let it: Hotswap<FixtureRef> = Hotswap::load_with(good, &trust, settings)?;
    crash::tell();
    println!("ready");
    for line in io::stdin().lock().lines() {
        let (then, path) = decode(&line?)?;
        let swapped = it.swap(&path);
        let (a, b) = it.with(|it| (it.build_a()(), it.build_b()()));
        let outcome = match swapped {
            Err(error) => format!("refused {}", error.reason()),
            Ok(_) if then == Then::Stay => "accepted".to_owned(),
            Ok(_) => match it.swap(good) {
                Err(error) => format!("cannot be replaced: {}", error.reason()),
                Ok(back) => match it.wait(back.retired, LEAVING) {
                    Some(State::Draining { .. }) => "stays".to_owned(),
                    _ => "accepted".to_owned(),
                },
            },
        };
        println!("{a} {b} {outcome}");
    }
    it.shutdown(LEAVING);
    Ok(())
}

/// A request as a line.
pub(crate) fn encode(then: Then, path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{then:?} {digits}")
}

fn decode(line: &str) -> Result<(Then, PathBuf), Box<dyn Error>> {
    let (then, digits) = line.split_once(' ').ok_or("no request")?;
    let then = [Then::GoBack, Then::Stay]
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
