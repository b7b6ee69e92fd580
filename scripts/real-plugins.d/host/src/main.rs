//! Builds plugins out of real crates, swaps each by the hundred in a process of its own, and says for each what was
//! expected and what was found. `scripts/real-plugins` runs it.
//!
//! The process that swaps may crash or hang; that is a result like any other.

// What is expected of whom.
mod cases;

// What a process says of itself, and what that amounts to.
mod outcome;

// One server for the plugin that needs one.
mod server;

// The process that swaps.
mod host;

// From a case to two files.
mod build;

#[path = "../../../../hotswap-core/tests/it/process.rs"]
#[expect(dead_code, reason = "what resident memory is, is not asked here")]
mod process;

use std::{
    env,
    error::Error,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use crate::{
    cases::{CASES, Case},
    outcome::Outcome,
};

/// A process that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(240);

/// Enough static TLS for some hundred generations that need some hundred bytes of it.
const STATIC_TLS: &str = "glibc.rtld.optional_static_tls=262144";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [mode, name, swaps, a, b] = &arguments[..]
        && mode == "--host"
    {
        let case = CASES
            .iter()
            .find(|case| case.name == name)
            .ok_or("no such case")?;
        host::run(case, swaps.parse()?, Path::new(a), Path::new(b))?;
        return Ok(ExitCode::SUCCESS);
    }
    run_all(&arguments)
}

/// `FOLDER [--swaps N] [NAME...]`: the cases whose names contain one of the names, or all.
fn run_all(arguments: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    let [folder, options @ ..] = arguments else {
        return Err("usage: host FOLDER [--swaps N] [NAME...]".into());
    };
    let (swaps, names) = match options {
        [option, swaps, names @ ..] if option == "--swaps" => (swaps.parse()?, names),
        names => (300, names),
    };
    let folder = PathBuf::from(folder);
    let is_wanted =
        |case: &&Case| names.is_empty() || names.iter().any(|name| case.name.contains(&name[..]));
    let (mut count, mut differing) = (0, 0);
    for case in CASES.iter().filter(is_wanted) {
        let outcome = match build::build(&folder, case) {
            Ok([a, b]) => run(&folder, case, swaps, &a, &b)?,
            Err(message) => Outcome::NotBuilt(message),
        };
        let is_expected = outcome.is(&case.expected);
        println!(
            "{} {:36} expected: {:32} found: {outcome}; the host {}",
            if is_expected { "ok     " } else { "DIFFERS" },
            case.name,
            case.expected.to_string(),
            outcome.host(),
        );
        count += 1;
        differing += u32::from(!is_expected);
    }
    println!("{count} plugins, {differing} not as expected");
    Ok(if count > 0 && differing == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the case in a process of its own. What it prints stays in `logs`.
fn run(
    folder: &Path,
    case: &Case,
    swaps: u32,
    a: &Path,
    b: &Path,
) -> Result<Outcome, Box<dyn Error>> {
    let (logs, temporary) = (folder.join("logs"), folder.join("tmp"));
    fs::create_dir_all(&logs)?;
    fs::create_dir_all(&temporary)?;
    let file = |end: &str| logs.join(format!("{}.{end}", case.file_name()));
    let mut host = Command::new(env::current_exe()?);
    if case.static_tls {
        host.env("GLIBC_TUNABLES", STATIC_TLS);
    }
    let mut child = host
        .args(["--host", case.name, &case.expected.swaps(swaps).to_string()])
        .args([a, b])
        .env("TMPDIR", &temporary)
        .stdout(File::create(file("out"))?)
        .stderr(File::create(file("err"))?)
        .spawn()?;
    let started = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if started.elapsed() < TIMEOUT => thread::sleep(Duration::from_millis(10)),
            None => {
                child.kill()?;
                child.wait()?;
                break None;
            }
        }
    };
    fs::remove_dir_all(&temporary)?;
    let said = fs::read(file("out"))?;
    Ok(Outcome::of(&String::from_utf8_lossy(&said), status))
}
