//! The type of a case, and the list of all cases.

use std::{
    error::Error,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    bytes, code, crash, descriptions, headers, paths, plugin::Plugin, subjects::Outcome, tables,
};

/// A candidate, and the outcomes that are demanded of the subjects.
pub(crate) struct Case {
    pub(crate) category: &'static str,
    /// How the candidate was made.
    pub(crate) name: String,
    pub(crate) candidate: Candidate,
    /// The build number that the candidate answers with, if it is accepted.
    pub(crate) build: u64,
    /// The demand on a host without a trial.
    pub(crate) host: Demand,
    /// The demand on a host with a trial.
    pub(crate) tried: Demand,
}

/// The outcome that is demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    Accept,
    Refuse,
    /// Accepted or refused: the damage cannot be seen, or does not matter. The host must live and answer correctly.
    Survive,
    /// Anything may happen but a crash in code that is neither the plugin's nor called by it, because a host that
    /// accepts the candidate runs damaged or harmful code, or runs code as something else.
    Anything,
    /// Anything at all: a pointer of the candidate's to a function leads elsewhere into its code. A function that is
    /// begun in its middle returns to whatever is on the stack, also in the host.
    OtherCode,
}

/// Where the file of a case comes from.
pub(crate) enum Candidate {
    /// The file exists already.
    Path(PathBuf),
    /// The file is written when its turn comes.
    Bytes(Vec<u8>),
    /// The file is made from a good one when its turn comes.
    Edited(Arc<Plugin>, Vec<Edit>),
}

/// A change to a file's bytes.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Write(usize, Vec<u8>),
    Fill(Range<usize>, u8),
    Truncate(usize),
    Insert(usize, Vec<u8>),
}

/// The plugins from which candidates are made, and temporary folders for the candidates.
pub(crate) struct Fixtures {
    /// The plugin with which hosts start.
    pub(crate) good: Arc<Plugin>,
    /// The plugins that are damaged.
    pub(crate) bases: Vec<Arc<Plugin>>,
    /// The folder of the debug plugins.
    pub(crate) plugins: PathBuf,
    /// A temporary folder, deleted at the end.
    pub(crate) folder: PathBuf,
    /// A folder in which the loader also looks for libraries.
    pub(crate) libraries: PathBuf,
}

impl Fixtures {
    /// Reads the plugins from a folder of debug plugins and, if given, a folder of release plugins.
    pub(crate) fn read(folders: &[PathBuf], temporary: &Path) -> Result<Self, Box<dyn Error>> {
        // Canonical, because cases create links to these files.
        let debug = fs::canonicalize(&folders[0])?;
        let mut bases = vec![
            Plugin::read(&debug, "build_2", 2)?,
            Plugin::read(&debug, "constructs_unloadable", 12)?,
        ];
        for release in &folders[1..] {
            bases.push(Plugin::read(release, "other_tables", 28)?);
        }
        let libraries = temporary.join("libraries");
        fs::create_dir(&libraries)?;
        Ok(Self {
            good: Arc::new(Plugin::read(&debug, "build_1", 1)?),
            bases: bases.into_iter().map(Arc::new).collect(),
            plugins: debug,
            folder: temporary.to_owned(),
            libraries,
        })
    }

    /// The path of a debug plugin.
    pub(crate) fn plugin(&self, name: &str) -> PathBuf {
        self.plugins.join(format!("lib{name}.so"))
    }
}

/// All cases that consist of one file.
pub(crate) fn all(fixtures: &Fixtures) -> Result<Vec<Case>, Box<dyn Error>> {
    let mut cases = paths::cases(fixtures)?;
    for base in &fixtures.bases {
        cases.extend(bytes::cases(base));
        cases.extend(headers::cases(base));
        cases.extend(tables::cases(base));
        cases.extend(descriptions::cases(base));
        cases.extend(code::damaged(base));
    }
    cases.extend(code::harmful(fixtures)?);
    Ok(cases)
}

impl Case {
    /// A case with the same demand on all hosts.
    pub(crate) fn new(
        category: &'static str,
        name: impl Into<String>,
        candidate: Candidate,
        demand: Demand,
    ) -> Self {
        let build = match &candidate {
            Candidate::Edited(base, _) => base.build,
            Candidate::Path(_) | Candidate::Bytes(_) => 0,
        };
        Self {
            category,
            name: name.into(),
            candidate,
            build,
            host: demand,
            // A trial exists to survive exactly this.
            tried: match demand {
                Demand::Anything | Demand::OtherCode => Demand::Survive,
                other => other,
            },
        }
    }

    /// A case in which some bytes of a good plugin are changed.
    pub(crate) fn edited(
        category: &'static str,
        name: &str,
        base: &Arc<Plugin>,
        edits: Vec<Edit>,
        demand: Demand,
    ) -> Self {
        let name = format!("{}: {name}", base.name);
        Self::new(
            category,
            name,
            Candidate::Edited(Arc::clone(base), edits),
            demand,
        )
    }

    pub(crate) fn of_build(self, build: u64) -> Self {
        Self { build, ..self }
    }

    /// The same case with another demand on hosts with a trial.
    pub(crate) fn tried(self, tried: Demand) -> Self {
        Self { tried, ..self }
    }
}

impl Demand {
    pub(crate) fn is_met_by(self, outcome: &Outcome) -> bool {
        match self {
            Self::Accept => matches!(outcome, Outcome::Accepted),
            Self::Refuse => matches!(outcome, Outcome::Refused(_)),
            Self::Survive => matches!(
                outcome,
                Outcome::Accepted | Outcome::Stays | Outcome::Refused(_)
            ),
            Self::Anything => !matches!(outcome, Outcome::Died(_, Some(crash::ELSEWHERE))),
            Self::OtherCode => true,
        }
    }
}

impl Candidate {
    /// The path for a subject. A file may be written at `place`.
    pub(crate) fn path(&self, place: &Path) -> PathBuf {
        let bytes = match self {
            Self::Path(path) => return path.clone(),
            Self::Bytes(bytes) => bytes.clone(),
            Self::Edited(base, edits) => {
                let mut bytes = base.bytes.clone();
                for edit in edits {
                    edit.apply(&mut bytes);
                }
                bytes
            }
        };
        fs::write(place, bytes).expect("a file in a folder of ours");
        place.to_owned()
    }
}

impl Edit {
    /// An edit that writes a number of `width` bytes.
    pub(crate) fn number(at: usize, width: usize, value: u64) -> Self {
        Self::Write(at, value.to_le_bytes()[..width].to_vec())
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, new) => bytes[*at..at + new.len()].copy_from_slice(new),
            Self::Fill(range, byte) => bytes[range.clone()].fill(*byte),
            Self::Truncate(length) => bytes.truncate(*length),
            Self::Insert(at, new) => drop(bytes.splice(*at..*at, new.iter().copied())),
        }
    }
}
