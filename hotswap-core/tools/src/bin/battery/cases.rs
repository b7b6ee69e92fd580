//! What a case is, and all of them.

use std::{
    error::Error,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{bytes, code, descriptions, headers, paths, plugin::Plugin, subjects::Outcome, tables};

/// A candidate, and what is demanded of those that it is given to.
pub(crate) struct Case {
    pub(crate) category: &'static str,
    /// What was done.
    pub(crate) name: String,
    pub(crate) candidate: Candidate,
    /// What it says it is, if it is accepted.
    pub(crate) build: u64,
    /// Of a host that does not try candidates.
    pub(crate) host: Demand,
    /// Of one that does.
    pub(crate) tried: Demand,
}

/// What must become of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    Accept,
    Refuse,
    /// Either: the damage cannot be seen, or does not matter. The host lives, and answers right.
    Survive,
    /// Code that is damaged, or means harm, or is called for other code, is run by who accepts it, and then everything may
    /// happen. The report says where a host has crashed.
    Anything,
}

/// Where the file of a case comes from.
pub(crate) enum Candidate {
    /// It is there.
    Path(PathBuf),
    /// It is written when its turn comes.
    Bytes(Vec<u8>),
    /// It is made of a good one when its turn comes.
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

/// The plugins that candidates are made of, and folders to make them in.
pub(crate) struct Fixtures {
    /// The one that hosts start with.
    pub(crate) good: Arc<Plugin>,
    /// Those that are damaged.
    pub(crate) bases: Vec<Arc<Plugin>>,
    /// Where the plugins of the debug build are.
    pub(crate) plugins: PathBuf,
    /// Gone at the end.
    pub(crate) folder: PathBuf,
    /// The loader looks for libraries in here too.
    pub(crate) libraries: PathBuf,
}

impl Fixtures {
    /// Reads them from a folder of debug plugins, and from one of release plugins if there is one.
    pub(crate) fn read(folders: &[PathBuf], temporary: &Path) -> Result<Self, Box<dyn Error>> {
        // Links lead to them.
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

    /// The path of a plugin of the debug build.
    pub(crate) fn plugin(&self, name: &str) -> PathBuf {
        self.plugins.join(format!("lib{name}.so"))
    }
}

/// Every case that is one file.
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
    /// A case with one demand of all hosts.
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
            // A trial is there to survive just this.
            tried: match demand {
                Demand::Anything => Demand::Survive,
                other => other,
            },
        }
    }

    /// A case that changes some bytes of a good plugin.
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

    /// The same with another demand of hosts that try candidates.
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
            Self::Anything => true,
        }
    }
}

impl Candidate {
    /// The path to be given to a subject; `place` is where a file may be written.
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
    /// Writes a number of `width` bytes.
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
