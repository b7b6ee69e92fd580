//! Gives thousands of damaged and unusual files to hosts: can one of them kill a process that swaps plugins, or make
//! it answer wrongly?
//!
//! `battery DEBUG_FOLDER [RELEASE_FOLDER]` makes several thousand candidates from the plugins of the tests, the same
//! ones every time. It gives them to [subjects](subjects::Subject), which are processes that may die: a plain
//! `dlopen`, a host, and a host with a trial. Each [case](cases::Case) says which outcome it demands. The exit code
//! is 1 if an outcome is not as demanded.
//!
//! - `--every N`: runs only every Nth case, and races of half a second.
//! - `--only TEXT`: runs only the cases whose category or name contain TEXT.
//! - `--race-seconds N`: the length of each race; the default is 3.
//! - `--texts`: prints every text of a refusal, and how often it occurred.

mod bytes;
mod cases;
mod code;
mod crash;
mod descriptions;
mod headers;
mod host;
mod limits;
mod paths;
mod plugin;
mod races;
mod report;
mod subjects;
mod tables;

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hotswap_core::Trial;

use crate::{
    cases::{Case, Fixtures},
    report::{Report, Row},
    subjects::Worker,
};

/// The command line.
struct Options {
    fixtures: Vec<PathBuf>,
    every: usize,
    only: String,
    race: Duration,
    texts: bool,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let trial = Trial::at_top_of_main(host::probe);
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("host") => {
            let trial = (arguments[2] == "Tried").then_some(trial);
            host::host(Path::new(&arguments[1]), trial).map(|()| ExitCode::SUCCESS)
        }
        Some("plain") => host::plain().map(|()| ExitCode::SUCCESS),
        Some("writer") => races::write_for_ever(&arguments[1..]),
        _ => battery(&options(arguments)?),
    }
}

fn options(arguments: Vec<String>) -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        fixtures: Vec::new(),
        every: 1,
        only: String::new(),
        race: Duration::from_secs(3),
        texts: false,
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--every" => {
                options.every = value()?.parse()?;
                options.race = Duration::from_millis(500);
            }
            "--only" => options.only = value()?,
            "--race-seconds" => options.race = Duration::from_secs(value()?.parse()?),
            "--texts" => options.texts = true,
            folder => options.fixtures.push(folder.into()),
        }
    }
    if options.fixtures.is_empty() || options.every == 0 {
        return Err("usage: battery DEBUG_FOLDER [RELEASE_FOLDER] [--every N] [--only TEXT] [--race-seconds N] [--texts]".into());
    }
    Ok(options)
}

fn battery(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let fixtures = Fixtures::read(&options.fixtures, folder.path())?;
    let chosen =
        |case: &Case| case.category.contains(&options.only) || case.name.contains(&options.only);
    let cases: Vec<Case> = cases::all(&fixtures)?
        .into_iter()
        .filter(chosen)
        .step_by(options.every)
        .collect();

    let mut report = Report::default();
    for row in run(&cases, &fixtures) {
        report.add(row);
    }
    for row in races::run(&fixtures, options.race, &options.only)? {
        report.add(row);
    }
    for row in limits::run(&fixtures, &options.only) {
        report.add(row);
    }
    report.print(options.texts);
    Ok(if report.is_as_demanded() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Gives every case to every subject. It uses twice as many threads as there are processors, because they mostly
/// wait.
fn run(cases: &[Case], fixtures: &Fixtures) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    let threads = 2 * thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (next, rows) = (&next, &rows);
            scope.spawn(move || {
                let mut worker = Worker::new(fixtures, thread);
                while let Some((number, case)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(number).map(|case| (number, case))
                } {
                    let row = worker.row(number, case);
                    rows.lock().expect("no worker panics").push((number, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("no worker panics");
    rows.sort_by_key(|(number, _)| *number);
    rows.into_iter().map(|(_, row)| row).collect()
}
