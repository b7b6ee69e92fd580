//! Checks whether a swap would accept a file, by running the pipeline of a candidate in a child process. No code of the
//! file runs in this process, and nothing is published. The report says which checks only a host can make.

use std::{
    fmt::{self, Display},
    path::PathBuf,
    time::SystemTime,
};

use hotswap_sdk::host::Interface;
use humantime::format_rfc3339_seconds;

use crate::{
    candidate::Candidate,
    digest::Sha256,
    error::{Error, ErrorKind, Result},
    escape::{Escaped, one_line},
    given::GivenPath,
    image::{STATIC_TLS_TUNABLE, find_libraries},
    module,
    report::report,
    stage::{Found, Needed, Staged},
    trial::{Findings, FoundUpdate, Trial},
    trust::Trust,
};

/// What a check has found out about a file that would be accepted.
///
/// Its [`Display`] prints one fact a line. [`serde::Serialize`] makes one object of these fields.
#[report]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// The path as it was given.
    pub path: PathBuf,
    /// The path with all links followed.
    pub real_path: PathBuf,
    /// The file's size in bytes.
    pub file_bytes: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Sha256,
    /// The serial number in its signature, if one is asked for and has a number
    /// ([`Policy::serial_min`](crate::Policy::serial_min)).
    pub serial: Option<u64>,
    /// When the file expires, if its signature says so.
    pub expires: Option<SystemTime>,
    /// The linker's build id in hexadecimal, if there is one.
    pub build_id: Option<String>,
    /// The name of the plugin's package, if it has `unloadable!`.
    pub name: Option<String>,
    /// The version of the plugin's package, if it has `unloadable!`.
    pub version: Option<String>,
    /// The interface, and the version of it that the plugin was built with.
    pub interface: String,
    /// The libraries that it needs.
    pub needed: Vec<String>,
    /// These libraries and those that they need, with the place where each was found.
    pub libraries: Vec<LibraryInfo>,
    /// Whether it is linked to stay mapped (`-z nodelete`).
    pub nodelete: bool,
    /// Whether that mark is removed from the copy that is loaded: see
    /// [`Policy::clear_nodelete`](crate::Policy::clear_nodelete).
    pub nodelete_cleared: bool,
    /// Whether it defines unique symbols (`STB_GNU_UNIQUE`), which make the system keep it mapped.
    pub unique_symbols: bool,
    /// Whether they are weak symbols in the copy that is loaded.
    pub unique_symbols_cleared: bool,
    /// How many bytes of static TLS it needs, if it needs any
    /// ([`EventKind::StaticTls`](crate::EventKind::StaticTls)).
    pub static_tls_bytes: Option<u64>,
    /// The imported functions that keep something of the plugin, such as a callback, after it was unloaded. Each of
    /// them pins the plugin, unless its author vouches for the function.
    pub leaves: Vec<String>,
    /// Why its `unloadable!` has no effect, if that is so.
    pub unloadable_problem: Option<String>,
    /// Whether it has an update (`hotswap_sdk::update!`), which a host with [services](crate::Settings::services) runs
    /// before it publishes it.
    pub has_update: bool,
    /// Why a host with services refuses it although it passes here, if so: the host cannot run its update.
    pub update_problem: Option<String>,
    /// Why it stayed mapped when it was loaded and unloaded once, if it did. The lists of libraries in the
    /// [`Policy`](crate::Policy) do not count here.
    pub stays: Option<String>,
    /// What a swap does and this check leaves out, each in a few words.
    pub left_out: Vec<String>,
}

/// A library that a plugin needs, directly or indirectly.
#[report]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LibraryInfo {
    /// The name by which it is needed.
    pub name: String,
    /// The file that was found, or that this process has mapped. `None`: hotswap did not find it and leaves the search
    /// to the system's linker. Then a swap checks it against the policy after it was loaded, and this check does not.
    pub path: Option<PathBuf>,
}

/// Checks a file as a swap does, in a child process, and publishes nothing. It is for deploy scripts, before they pass
/// a file to a host.
///
/// It does what a swap with this trust and this trial does: it checks the file and its owner, inspects and loads it,
/// compares versions and types, and runs the constructor of the root module and the trial's probe. Then it unloads the
/// file, which a swap does not.
///
/// It leaves out what needs the state of a host or its linker, and lists that in [`CheckReport::left_out`]:
///
/// - the plugin's update, which a host with [services](crate::Settings::services) runs with its own values;
/// - who owns and can write the libraries that only the system's linker finds ([`LibraryInfo::path`]);
/// - the configuration of the live generation, which a swap gives to a candidate without one; here the candidate then
///   gets the empty one;
/// - the services that the host offers ([`Settings::host_services`](crate::Settings::host_services)): the constructor
///   gets those of the [`Trial`];
/// - the host's own probe ([`Settings::probe`](crate::Settings::probe)), which may ask the live generation, too;
/// - whether the host has room: its retired plugins ([`Limits::retired_images_max`](crate::Limits)), its memory, and
///   its static TLS.
///
/// Costs reading the file and a [`Trial`]. The result can be different by the time of the swap, which makes all checks
/// again.
///
/// # Errors
///
/// The error of a swap with this trust and this trial, except for what is left out.
pub fn check<I: Interface + ?Sized>(
    candidate: impl Into<Candidate>,
    trust: &Trust,
    trial: Trial<I>,
) -> Result<CheckReport> {
    let Candidate { path, config } = candidate.into();
    let has_config = config.is_some();
    let given = GivenPath::new(&path)?;
    let path = &*given;
    let (mut staged, _) = Staged::prepare(&given, module::EXPORT, trust)?;
    staged.set_config(config.unwrap_or_default());
    find_libraries(&mut staged, trust.policy())?;
    let Findings {
        interface,
        package,
        unloadable_problem,
        update,
        stays,
    } = trial.run(&staged)?.findings;
    let sha256 = staged.sha256();
    let sha256 = sha256.map_err(|error| Error::new(path, ErrorKind::cannot_copy(error)))?;
    let (origin, facts, cleared) = (staged.origin(), staged.facts(), staged.cleared());
    let (name, version) = package.unzip();
    let libraries: Vec<_> = staged.libraries().iter().map(LibraryInfo::from).collect();
    Ok(CheckReport {
        path: path.to_owned(),
        real_path: origin.real.clone(),
        file_bytes: origin.bytes,
        sha256,
        serial: origin.claims.serial,
        expires: origin.claims.expires,
        build_id: facts.build_id.clone(),
        name,
        version,
        interface: format!("{} {interface}", I::name()),
        needed: facts.needed.clone(),
        nodelete: facts.nodelete || cleared.nodelete,
        nodelete_cleared: cleared.nodelete,
        unique_symbols: facts.unique_symbols || cleared.unique_symbols,
        unique_symbols_cleared: cleared.unique_symbols,
        static_tls_bytes: facts.static_tls_bytes(),
        leaves: facts
            .keeping_functions
            .iter()
            .map(ToString::to_string)
            .collect(),
        unloadable_problem,
        left_out: left_out(has_config, &update, &libraries),
        libraries,
        has_update: update != FoundUpdate::None,
        update_problem: match update {
            FoundUpdate::Bad(reason) => Some(reason),
            FoundUpdate::None | FoundUpdate::Good => None,
        },
        stays,
    })
}

fn left_out(has_config: bool, update: &FoundUpdate, libraries: &[LibraryInfo]) -> Vec<String> {
    let config = (!has_config).then_some(
        "the configuration that a host has (Candidate::with_config), here the empty one",
    );
    let update = (*update == FoundUpdate::Good)
        .then_some("its update, which a host with services runs (Settings::services)");
    let libraries = libraries
        .iter()
        .any(|it| it.path.is_none())
        .then_some("who owns and can write what only the system's linker finds");
    let of_a_host = [
        "the services that a host offers (Settings::host_services), here those of the trial",
        "the probe of a host (Settings::probe)",
        "whether a host has room (Limits::retired_images_max, memory, static TLS)",
    ];
    let of_this = update.into_iter().chain(libraries).chain(config);
    let all = of_this.chain(of_a_host);
    all.map(str::to_owned).collect()
}

impl From<&Needed> for LibraryInfo {
    fn from(needed: &Needed) -> Self {
        let path = match &needed.found {
            Found::File(file) => Some(file.path.clone()),
            Found::Mapped(path) => Some(path.clone()),
            Found::Nowhere => None,
        };
        let name = needed.name.clone();
        Self { name, path }
    }
}

/// `libdep.so (/srv/plugins/libdep.so)`
impl Display for LibraryInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", Escaped(&self.name))?;
        match &self.path {
            Some(path) => write!(f, "{})", Escaped(path)),
            None => f.write_str("left to the system's linker)"),
        }
    }
}

impl Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let package = match (&self.name, &self.version) {
            (Some(name), Some(version)) => format!("{name} {version}"),
            _ => "not known, for it has no `unloadable!`".to_owned(),
        };
        let unloadable = match (&self.unloadable_problem, &self.name) {
            (Some(problem), _) => problem.clone(),
            (None, Some(_)) => format!("version {}", hotswap_unload::VERSION),
            (None, None) => "none".to_owned(),
        };
        let unloading = match &self.stays {
            None => "left again",
            Some(why) => why,
        };
        let static_tls = self.static_tls_bytes.map_or_else(
            || "no".to_owned(),
            |bytes| format!("{bytes} bytes, which glibc rarely gives back; {STATIC_TLS_TUNABLE}"),
        );
        let mark = |is_set, is_cleared| match (is_set, is_cleared) {
            (false, _) => "no",
            (true, false) => "yes",
            (true, true) => "yes, cleared in the copy",
        };
        let libraries: Vec<String> = self.libraries.iter().map(ToString::to_string).collect();
        let leaves = match &*self.leaves {
            [] => "nothing".to_owned(),
            all => all.join(", "),
        };
        let update = match (self.has_update, &self.update_problem) {
            (_, Some(problem)) => format!("a host with services refuses it: {problem}"),
            (true, None) => "not run here".to_owned(),
            (false, None) => "none".to_owned(),
        };
        let lines = [
            ("file", Escaped(&self.real_path).to_string()),
            ("bytes", self.file_bytes.to_string()),
            ("sha256", self.sha256.to_string()),
            (
                "serial",
                self.serial.map_or("none".to_owned(), |it| it.to_string()),
            ),
            (
                "expires",
                self.expires.map_or("never".to_owned(), |it| {
                    format_rfc3339_seconds(it).to_string()
                }),
            ),
            (
                "build id",
                self.build_id.as_deref().unwrap_or("none").to_owned(),
            ),
            ("package", one_line(&package)),
            ("interface", one_line(&self.interface)),
            ("needs", libraries.join(", ")),
            (
                "nodelete",
                mark(self.nodelete, self.nodelete_cleared).to_owned(),
            ),
            (
                "unique",
                mark(self.unique_symbols, self.unique_symbols_cleared).to_owned(),
            ),
            ("static TLS", static_tls),
            ("leaves", leaves),
            ("unloadable", one_line(&unloadable)),
            ("update", one_line(&update)),
            ("unloading", one_line(unloading)),
            ("left out", self.left_out.join("; ")),
        ];
        write!(f, "would be accepted: {}", Escaped(&self.path))?;
        for (name, value) in lines {
            write!(f, "\n  {name:<11}{value}")?;
        }
        Ok(())
    }
}
