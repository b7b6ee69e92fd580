//! Races: a host swaps in a file while another process rewrites it over and over, in various ways.

use std::{
    error::Error,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt,
    path::Path,
    process::{Child, Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use crate::{
    cases::{Demand, Fixtures},
    host::AfterSwap,
    report::Row,
    subjects::{Host, Outcome, Subject, command, hosts},
};

const CATEGORY: &str = "race";
/// Writes a file. In the end it contains these bytes.
type Write = fn(&Path, &[u8]) -> io::Result<()>;

const WRITERS: [(&str, Write); 5] = [
    ("written over in place", in_place),
    ("replaced by rename", renamed),
    ("cut off and grown again", cut_off),
    ("deleted and written anew", deleted),
    ("written in small pieces", in_pieces),
];

/// Runs each race for `time`. A race is one row; its outcome is the first wrong one, if there is any.
pub(crate) fn run(
    fixtures: &Fixtures,
    time: Duration,
    only: &str,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for (number, (name, _)) in WRITERS.iter().enumerate() {
        if !(CATEGORY.contains(only) || name.contains(only)) {
            continue;
        }
        let path = fixtures.folder.join(format!("race {number}.so"));
        for subject in hosts() {
            fs::copy(&fixtures.good.path, &path)?;
            let mut command = command(fixtures);
            command.arg("writer").arg(number.to_string()).arg(&path);
            command.args([&fixtures.good.path, &fixtures.bases[0].path]);
            let writer = Writer::start(command)?;
            let (outcome, accepted, refused) = race(fixtures, subject, &path, time);
            drop(writer);
            let name = format!("{name}: {accepted} times accepted, {refused} refused");
            println!("race, {}: {name}", subject.title());
            rows.push(Row::of(CATEGORY, name, subject, Demand::Accept, outcome));
        }
    }
    Ok(rows)
}

fn race(
    fixtures: &Fixtures,
    subject: Subject,
    path: &Path,
    time: Duration,
) -> (Outcome, usize, usize) {
    let (mut accepted, mut refused) = (0, 0);
    let mut host = match Host::start(fixtures, subject, |_| {}) {
        Ok(host) => host,
        Err(outcome) => return (outcome, 0, 0),
    };
    let builds = [fixtures.good.build, fixtures.bases[0].build];
    let started = Instant::now();
    while started.elapsed() < time {
        match host.ask(AfterSwap::Stay, path, &builds) {
            Outcome::Accepted => accepted += 1,
            Outcome::Refused(_) => refused += 1,
            other => return (other, accepted, refused),
        }
    }
    (
        host.end().err().unwrap_or(Outcome::Accepted),
        accepted,
        refused,
    )
}

/// The writing process. Dropping this kills it.
struct Writer(Child);

impl Writer {
    fn start(mut command: Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The writing process. Its arguments are the number of a way, the file to write, and the two files whose content it
/// writes in turn.
pub(crate) fn write_for_ever(arguments: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    let [way, path, builds @ ..] = arguments else {
        return Err("a way, a path and builds".into());
    };
    let (_, write) = WRITERS[way.parse::<usize>()?];
    let builds: Vec<Vec<u8>> = builds.iter().map(fs::read).collect::<Result<_, _>>()?;
    for bytes in builds.iter().cycle() {
        write(Path::new(path), bytes)?;
        // A pause, so that some swaps find a file that does not change.
        thread::sleep(Duration::from_millis(2));
    }
    Err("no builds".into())
}

fn in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    File::options()
        .write(true)
        .open(path)?
        .write_all_at(bytes, 0)
}

fn renamed(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let other = path.with_extension("new");
    fs::write(&other, bytes)?;
    fs::rename(other, path)
}

fn cut_off(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(bytes.len() as u64 / 2)?;
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)
}

fn deleted(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::remove_file(path)?;
    fs::write(path, bytes)
}

fn in_pieces(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    for piece in bytes.chunks(8192) {
        file.write_all(piece)?;
    }
    Ok(())
}
