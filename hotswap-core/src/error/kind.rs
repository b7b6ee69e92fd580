//! [`ErrorKind`]: every reason for which a candidate is refused, with its data, its text, its form for programs, its
//! stage and its setting. The file is long because each reason is defined in one place. (`trial::report` sends those
//! that a child process finds, field by field.)
//!
//! Fields with the names `expected` and `found` are what a candidate should have been and was: programs look for them.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use hotswap_elf::Refusal;
use humantime::format_rfc3339_seconds;

use super::{
    Stage,
    details::{By, Death, Distrust, Exported, OpenError, StoppedBy, SystemError, UnloadingAt},
};
use crate::{
    comparison::Figures,
    digest::Sha256,
    escape::Escaped,
    report::{Bytes, RetiredPlugins, report},
    system::signals,
};

/// Why a candidate is refused, with what was expected and what was found.
///
/// Its [`Display`](std::fmt::Display) is one line without the stage, the path and the setting. The documentation of
/// each variant says what has happened and what to do about it.
#[report(tag = "kind", content = "data", error)]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The path is empty, has a NUL byte in it, or is a bare name. Write `./` before a file in the current folder.
    #[stage(Open)]
    #[text("{problem}")]
    InvalidPath {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// On this platform plugins cannot be loaded yet: only on Linux with glibc (*Platforms* in
    /// [`docs::stability`](crate::docs::stability)). Built-in values work
    /// ([`Hotswap::builtin`](crate::Hotswap::builtin)).
    #[stage(Host)]
    #[text("plugins cannot be loaded on this platform yet: {why}")]
    UnsupportedPlatform {
        /// What keeps them from being unloaded.
        why: &'static str,
    },
    /// There is no file at the path. Build or copy it.
    #[stage(Open)]
    #[text("{}", if *is_link { "a symbolic link to nowhere" } else { "no such file" })]
    NotFound {
        /// Whether the path itself is a symbolic link.
        is_link: bool,
    },
    /// The path leads to something that is not a regular file. Only regular files are opened.
    #[stage(Open)]
    #[text("{found}")]
    NotAFile {
        /// What it leads to.
        found: &'static str,
    },
    /// The system does not let this process open the file, or `/proc`, which is needed to open it.
    #[stage(Open)]
    #[text("{}", OpenError(error))]
    CannotOpen {
        /// What the system says.
        error: SystemError,
    },
    /// The file, or a folder on its path, was changed each time it was read. Try again when its writer is done. Better,
    /// write a file of another name and rename it.
    #[stage(Open)]
    #[text("{what}")]
    KeepsChanging {
        /// What has changed.
        what: &'static str,
    },
    /// The file is larger than [`Policy::file_bytes_max`](crate::Policy::file_bytes_max), or a signature or serial file
    /// is larger than any valid one.
    #[stage(Open)]
    #[text("{bytes} bytes are more than the {bytes_max} that are accepted")]
    TooLarge {
        /// The size.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// The swap point has a built-in value ([`Hotswap::builtin`](crate::Hotswap::builtin)), so there is no file whose
    /// changes could be watched. Swap a plugin in first.
    #[stage(Open)]
    #[text("there is no file to watch: the value is built in; swap one in first")]
    NothingToWatch,
    /// The live generation is a built-in value ([`Hotswap::builtin`](crate::Hotswap::builtin)), which takes no
    /// configuration. Swap a plugin in first.
    #[stage(Open)]
    #[text("there is no plugin to configure: the value is built in; swap one in first")]
    NothingToConfigure,
    /// The swap point was made without a [`Trust`](crate::Trust). Make it with one
    /// ([`Hotswap::builtin_with`](crate::Hotswap::builtin_with)).
    #[stage(Trust)]
    #[text(
        "a swap point of a built-in value without a trust loads nothing (Hotswap::builtin_with)"
    )]
    NoTrust,
    /// The folder in [`Policy::root`](crate::Policy::root) cannot be opened. Correct the policy.
    #[stage(Trust)]
    #[setting("Policy::root")]
    #[text("the root {path}: {error}")]
    Root {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: SystemError,
    },
    /// Somebody who is not trusted could have written the file or can change it, or the policy does not allow its
    /// location.
    #[stage(Trust)]
    #[setting(why.setting())]
    #[text("{path} {why}")]
    NotTrusted {
        /// The file, or a folder or link that leads to it, with all links before it followed.
        path: PathBuf,
        /// What is wrong with it.
        #[serde(flatten)]
        why: Distrust,
    },
    /// The file's hash is not in [`Policy::sha256`](crate::Policy::sha256). Deploy the intended file.
    #[stage(Trust)]
    #[text("SHA-256: expected {}, found {found}", expected.0.iter().map(Sha256::to_string).collect::<Vec<_>>().join(" or "))]
    Pin {
        /// The hashes that the policy allows.
        expected: Vec<Sha256>,
        /// The hash of the file.
        found: Sha256,
    },
    /// The policy demands a serial number but has no [`Policy::public_key`](crate::Policy::public_key), so that the
    /// number would not be authenticated. Set the key.
    #[stage(Trust)]
    #[setting("Policy::public_key")]
    #[text("a serial number is asked for, which only a signature has, and no signature is")]
    NoPublicKey,
    /// The file is not signed with [`Policy::public_key`](crate::Policy::public_key).
    #[stage(Trust)]
    #[text("its signature {path}: {why}")]
    Signature {
        /// The file of the signature.
        path: PathBuf,
        /// What is wrong with it.
        #[serde(flatten)]
        why: SignatureProblem,
    },
    /// The signature has expired. Sign the file, or a newer one, again.
    #[stage(Trust)]
    #[text("its signature {path}: it has expired at {}", format_rfc3339_seconds(*at))]
    Expired {
        /// The file of the signature.
        path: PathBuf,
        /// When it has expired.
        at: SystemTime,
    },
    /// The signature has no serial number, or one that is lower than what was accepted before or what the host demands:
    /// this is an old plugin. Deploy a newer one.
    #[stage(Trust)]
    #[setting(Some(if *is_in_file { "Policy::serial_file" } else { "Policy::serial_min" }))]
    #[text(
        "its serial number: expected at least {floor}, found {}",
        found.map_or_else(|| "none".to_owned(), |it| it.to_string())
    )]
    SerialTooLow {
        /// The lowest number that is accepted.
        floor: u64,
        /// The candidate's.
        found: Option<u64>,
        /// Whether the floor is in [`Policy::serial_file`](crate::Policy::serial_file). If not, it is
        /// [`Policy::serial_min`](crate::Policy::serial_min).
        is_in_file: bool,
    },
    /// The file in [`Policy::serial_file`](crate::Policy::serial_file) cannot be used. Restore it; a new one contains
    /// `0`.
    #[stage(Trust)]
    #[setting("Policy::serial_file")]
    #[text("the highest serial number, in {path}: {problem}")]
    SerialFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The serial number of a candidate that would otherwise be accepted cannot be saved.
    #[stage(Host)]
    #[setting("Policy::serial_file")]
    #[text("the serial number {serial} cannot be kept in {path}: {error}")]
    SerialNotKept {
        /// The file of [`Policy::serial_file`](crate::Policy::serial_file).
        path: PathBuf,
        /// The candidate's number.
        serial: u64,
        /// The system's error, or which other process uses the file.
        error: SystemError,
    },
    /// A host has crashed in code of these bytes before ([`crash`](crate::crash)). Deploy others, or remove the
    /// file if they shall be tried again.
    #[stage(Trust)]
    #[setting("Policy::avoid_crashed")]
    #[text("its code has crashed before; remove {path} to have it tried again: {report}")]
    Crashed {
        /// The file in [`Policy::avoid_crashed`](crate::Policy::avoid_crashed).
        path: PathBuf,
        /// The line that was reported last.
        report: String,
    },
    /// The folder of [`Policy::avoid_crashed`](crate::Policy::avoid_crashed) cannot be used. Make it, writable by the
    /// host alone.
    #[stage(Trust)]
    #[setting("Policy::avoid_crashed")]
    #[text("the folder of crashes, {path}: {error}")]
    CrashFolder {
        /// The folder, or the candidate's record in it if that cannot be read.
        path: PathBuf,
        /// The system's error, or that the record is not a regular file.
        error: SystemError,
    },
    /// The candidate needs a library that is refused itself.
    #[stage(stage_of_library(cause))]
    #[setting(cause.setting())]
    #[text("needs {}{}: {}{cause}", Escaped(name), By(by), path.as_ref().map_or_else(String::new, |it| format!("{}: ", Escaped(it))))]
    Library {
        /// The library, as it is asked for.
        name: String,
        /// The library that needs it, if it is not the candidate.
        by: Option<String>,
        /// The file, if `cause` does not name one.
        path: Option<PathBuf>,
        /// Why.
        cause: Box<ErrorKind>,
    },
    /// A library was found only in a folder that is relative to the current folder, for which the policy cannot be
    /// enforced. Use absolute folders, or `$ORIGIN`.
    #[stage(Trust)]
    #[text(
        "it is only in the folder \"{folder}\", which is relative to the current folder, and libraries are not looked for \
         there"
    )]
    RelativeFolder {
        /// The folder, as in the library path of the file or of the environment.
        folder: PathBuf,
    },
    /// A library was not found, and the dynamic linker would search for it in a folder in which somebody whom the
    /// policy does not trust could put one by then. Take the folder out of the library path of the file or of the
    /// environment.
    #[stage(Trust)]
    #[text(
        "not found, and the linker would also look in \"{folder}\", where users who are not trusted could put one: take \
         that folder out of the library path"
    )]
    UntrustedFolder {
        /// The folder. It need not exist.
        folder: PathBuf,
    },
    /// The candidate's libraries need more libraries in turn than are searched for.
    #[stage(Open)]
    #[text("needs more than {libraries_max} libraries by way of others")]
    TooManyLibraries {
        /// The bound.
        libraries_max: usize,
    },
    /// A library is needed by a name that a plugin has as its own (`DT_SONAME`): the candidate itself, or one that is
    /// loaded. The dynamic linker would take that plugin for the library. Link the plugin without `-soname`, or with
    /// another one.
    #[stage(Open)]
    #[text(
        "that is the name (DT_SONAME) of the plugin {plugin}, which the linker would take for the library"
    )]
    NameOfPlugin {
        /// The plugin's file, as it was given.
        plugin: PathBuf,
    },
    /// The candidate and its libraries need so many libraries, and name so many folders to look into, that the search
    /// would take too long. Take folders out of their library paths.
    #[stage(Open)]
    #[text(
        "the search for libraries takes too long: more than {lookups_max} look-ups of libraries in the folders of library \
         paths"
    )]
    TooManyLookups {
        /// The bound.
        lookups_max: usize,
    },
    /// The file cannot be read or copied. If memory or descriptors are short, a later attempt may succeed.
    #[stage(Copy)]
    #[text("{error}")]
    CannotCopy {
        /// What the system says.
        error: SystemError,
    },
    /// The dynamic linker could not safely open the file, or the file does not export what is needed. Build it again,
    /// as a `cdylib` for this machine.
    #[stage(Inspect)]
    #[text("{refusal}")]
    Malformed {
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// The file uses Rust code in another library, so that it could not be unloaded reliably. Link std and all crates
    /// into it.
    #[stage(Inspect)]
    #[text(
        "takes Rust code from another library ({}symbol {symbol}): build it without `-C prefer-dynamic`, and without \
         dependencies of crate-type `dylib`",
        library.as_ref().map_or_else(String::new, |it| format!("{it}, "))
    )]
    SharesRust {
        /// The library, if it is known.
        library: Option<String>,
        /// One of the symbols that the file takes from it.
        symbol: String,
    },
    /// The file needs a stack that can be executed, for which the linker would make the stacks of all threads
    /// executable, and leave them so even if the file is refused afterwards. Mostly an assembly file lacks
    /// `.section .note.GNU-stack,"",@progbits`. Link it with `-z noexecstack`.
    #[stage(Inspect)]
    #[text(
        "asks for executable stacks, which all threads would get: link it with `-z noexecstack`"
    )]
    ExecutableStack,
    /// The file asks another library first for its own symbols (`DT_FILTER`, `DT_AUXILIARY`). glibc before 2.32 ends
    /// the process when it opens such a file. Link it without `-F` and `-f`, or run the host on a newer system.
    #[stage(Inspect)]
    #[text(
        "asks another library first for its own symbols (DT_FILTER or DT_AUXILIARY), which the linker of this system cannot \
         open: link it without `-F` and `-f`"
    )]
    Filter,
    /// The dynamic linker cannot load the file. Mostly a symbol or a library is missing.
    #[stage(Link)]
    #[text("{message}[; {advice}]")]
    Link {
        /// What the linker says.
        message: String,
        /// What may help.
        advice: Option<String>,
    },
    /// The file exports no root module, so it is no plugin. Write `#[plugin]` or `#[export_root_module]`, and build a
    /// `cdylib`.
    #[stage(Inspect)]
    #[text(
        "no plugin: it exports no root module{}",
        problem.as_ref().map_or_else(
            || " (is `#[plugin]` or `#[export_root_module]` missing?)".to_owned(),
            |it| format!(": {it}")
        )
    )]
    NoRootModule {
        /// Why the root module's symbol is not found, if the file has a symbol of that name.
        problem: Option<String>,
    },
    /// The symbol of the root module is something else, or is damaged. Build the plugin again.
    #[stage(Header)]
    #[text("{problem}")]
    BadHeader {
        /// What is wrong with it.
        problem: String,
    },
    /// The plugin was built with an incompatible version of abi_stable. Build it with the host's.
    #[stage(if symbol.is_none() { Header } else { Symbol })]
    #[text("[`{symbol}` is of ]another version of abi_stable: expected {expected}, found {found}")]
    AbiStable {
        /// `update`, if that was built with it. `None`: the root module.
        symbol: Option<String>,
        /// The host's version.
        expected: String,
        /// The candidate's version.
        found: String,
    },
    /// The plugin was built with a version of the interface that is incompatible with the host's. Build it with the
    /// host's.
    #[stage(Version)]
    #[text("the interface {interface}: expected {expected}, found {found}")]
    Version {
        /// The package of the interface.
        interface: String,
        /// The versions that are accepted.
        expected: String,
        /// The candidate's version.
        found: String,
    },
    /// A type of the interface, or of an exported function, differs from the host's. The error's
    /// [`source`](std::error::Error::source) has the details.
    #[stage(Layout)]
    #[text("[`{symbol}`: ]{difference}")]
    Layout {
        /// `update`, if its type differs. `None`: the interface or the function, of which the difference has the name.
        symbol: Option<String>,
        /// Where the types differ, what was expected there, and what was found.
        difference: String,
    },
    /// A value that outlives generations has another type than the one that the host requests
    /// ([`with_ref`](crate::Hotswap::with_ref)).
    #[stage(Layout)]
    #[text("{problem}")]
    RefType {
        /// The name of the value.
        name: String,
        /// What was expected and what was found, in a text that contains the name.
        problem: String,
    },
    /// The plugin's constructor takes a host service that the host does not have. Add it to
    /// [`Settings::host_services`](crate::Settings::host_services), or to the services of the trial
    /// ([`Trial::at_top_of_main_with`](crate::Trial::at_top_of_main_with)).
    #[stage(Layout)]
    #[text(
        "its constructor takes the host service {interface}, which {} (`{}`)",
        if *is_in_trial { "the trial does not have" } else { "this host does not have" },
        if *is_in_trial { "Trial::at_top_of_main_with" } else { "Settings::host_services" }
    )]
    MissingHostService {
        /// The interface of the service.
        interface: String,
        /// Whether it was refused in a trial.
        is_in_trial: bool,
    },
    /// The plugin's constructor has returned an error. A later attempt may succeed.
    #[stage(Root)]
    #[text("its constructor failed: {message}")]
    ConstructorFailed {
        /// The error.
        message: String,
    },
    /// The address of a function in the root module, or of a method, is not in the plugin's code: the file is damaged.
    #[stage(Root)]
    #[text("its function `{function}` is not code")]
    NotCode {
        /// The function.
        function: String,
    },
    /// The file does not export the requested function.
    #[stage(Symbol)]
    #[text("no `{name}`; {}", Exported(found.0))]
    NoSymbol {
        /// The requested name.
        name: String,
        /// The functions that the file exports with `#[export]`.
        found: Vec<String>,
    },
    /// The symbol of this name cannot be used. Build the file again.
    #[stage(Symbol)]
    #[text("{problem}")]
    BadSymbol {
        /// The symbol.
        name: String,
        /// What is wrong with it, in a text that contains the name.
        problem: String,
    },
    /// The host's probe has refused the candidate, or a call of the candidate inside the probe has had a fault.
    #[stage(Probe)]
    #[text("{reason}")]
    Probe {
        /// The error that the probe has returned, or the fault.
        reason: String,
    },
    /// The candidate's constructor or the host's probe has panicked.
    #[stage(*stage)]
    #[text("{} panicked[: {message}]", if *stage == Stage::Probe { "the probe" } else { "its constructor" })]
    Panicked {
        /// How far the candidate came: [`Stage::Root`] for its constructor, [`Stage::Probe`] for the probe.
        stage: Stage,
        /// The panic's message, if it can be read.
        message: Option<String>,
    },
    /// The candidate's update has failed or panicked. None of the changes that it requested were made.
    #[stage(Update)]
    #[text("{reason}")]
    Update {
        /// Its error or its panic.
        reason: String,
    },
    /// The candidate was a canary, and was given up ([`Canary`](crate::canary::Canary)). It is unloaded as soon as
    /// nobody uses it any more.
    #[stage(Canary)]
    #[text("{reason} (the candidate had {candidate}; the live side had {live})")]
    Abandoned {
        /// Why: what the host has said, or what the rule has found.
        reason: String,
        /// What became of the calls that the candidate got.
        candidate: Box<Figures>,
        /// What became of the calls that were not given to it.
        live: Box<Figures>,
    },
    /// The trial could not run: the system does not let its process be started or communicated with.
    #[stage(Trial)]
    #[text("[{what}: ]{error}")]
    Trial {
        /// What has failed, unless `error` says it.
        what: Option<&'static str>,
        /// What the system says.
        error: SystemError,
    },
    /// The candidate has ended the process of its trial.
    #[stage(*stage)]
    #[text(
        "{}[; it said: {said}]",
        Death { exit_code: *exit_code, signal: *signal, has_begun: *has_begun, has_finished: *has_finished }
    )]
    Died {
        /// How far it came.
        stage: Stage,
        /// The exit code, if the process has exited.
        exit_code: Option<i32>,
        /// The signal, if a signal has ended the process.
        signal: Option<i32>,
        /// Whether the process has reached `Trial::at_top_of_main`.
        has_begun: bool,
        /// Whether the trial had already passed.
        has_finished: bool,
        /// The last line that it has written to standard error.
        said: Option<String>,
    },
    /// The trial did not end in time ([`Trial::with_timeout`](crate::Trial::with_timeout)).
    #[stage(*stage)]
    #[text("no end after {timeout:?}{}, in a trial", StoppedBy(*stopped_by))]
    TimedOut {
        /// How far it came.
        stage: Stage,
        /// The timeout.
        timeout: Duration,
        /// The signal that has stopped its process, if one has: `SIGTTOU` if it has tried to change the terminal.
        stopped_by: Option<i32>,
    },
    /// The trial has refused the candidate for a reason that it can send only as text.
    #[stage(*stage)]
    #[text("{reason}")]
    RefusedInTrial {
        /// How far the candidate came.
        stage: Stage,
        /// What it says.
        reason: String,
    },
    /// In a trial, the plugin has left descriptors open after it was unloaded, or has closed descriptors of the host.
    #[stage(Unload)]
    #[text(
        "{}: {which}",
        if *are_lost { "it closes or replaces descriptors that are not its own" }
        else { "each time it is loaded, it leaves descriptors open" }
    )]
    Descriptors {
        /// Whether these are descriptors of the host that were closed or replaced. If not, the plugin has left them
        /// open.
        are_lost: bool,
        /// The files that they refer to.
        which: Vec<String>,
    },
    /// The system does not let this process start a thread. Raise its limits.
    #[stage(Host)]
    #[text("no thread can be started: {error}")]
    NoThread {
        /// What the system says.
        error: SystemError,
    },
    /// So little memory is left that a failed allocation, or the kernel, could end the process. Raise its limits, or
    /// those of its control group, or free memory of the machine.
    #[stage(Host)]
    #[text(
        "not enough memory is left: {bytes} bytes are needed{}",
        threads.map_or_else(String::new, |it| format!(" for its thread-locals on {it} threads"))
    )]
    NoMemory {
        /// How many bytes are needed.
        bytes: u64,
        /// The number of threads, if the memory is needed for thread-locals.
        threads: Option<u64>,
    },
    /// The system does not let this process make the memory mappings that an image and a thread need. Raise
    /// `vm.max_map_count`.
    #[stage(Host)]
    #[text("{mappings} memory mappings cannot be made (vm.max_map_count): {error}")]
    NoMappings {
        /// How many are needed.
        mappings: usize,
        /// What the system says.
        error: SystemError,
    },
    /// The limit on retired plugins that are still mapped is reached. See what holds them. If nothing will ever release
    /// them, restart the process.
    #[stage(Host)]
    #[text(
        "{} still mapped, {}, and no more are accepted ({} is {}): {}",
        RetiredPlugins(*images), Bytes(*bytes),
        if *is_of_bytes { "Limits::retired_bytes_max" } else { "Limits::retired_images_max" },
        if *is_of_bytes { Bytes(*max).to_string() } else { max.to_string() }, left.0.join("; ")
    )]
    Retired {
        /// How many are still mapped.
        images: usize,
        /// The size of their copies.
        bytes: u64,
        /// Whether the bound is [`Limits::retired_bytes_max`](crate::Limits::retired_bytes_max). If not, it is
        /// [`Limits::retired_images_max`](crate::Limits::retired_images_max).
        is_of_bytes: bool,
        /// The bound.
        max: u64,
        /// The first of them, and why they are still mapped.
        left: Vec<String>,
    },
    /// The thread that unloads has not caught up within the timeout. Swap less often, or look for finalisers that take
    /// long.
    #[stage(Host)]
    #[text(
        "unloading is behind: {} still to be unloaded after {timeout:?} (Limits::unload_timeout), and no more are accepted until one has \
         left{}",
        RetiredPlugins(*images), UnloadingAt { generation: *generation, is_refused: *is_refused }
    )]
    UnloadingBehind {
        /// How many are still to be unloaded.
        images: usize,
        /// How long the candidate has waited: [`Limits::unload_timeout`](crate::Limits::unload_timeout).
        timeout: Duration,
        /// The generation that is being unloaded, if it is one.
        generation: Option<u64>,
        /// Whether a refused candidate is being unloaded.
        is_refused: bool,
    },
    /// This process was forked from the one that made the swap point or the loader. Make one in this process.
    #[stage(Host)]
    #[text(
        "this process was forked off the one that {}, and has none of its threads; {} here",
        if *is_of_loader { "made the loader" } else { "loaded the plugin" },
        if *is_of_loader { "make one" } else { "load it anew" }
    )]
    Forked {
        /// Whether the other process made a loader. If not, it made a swap point.
        is_of_loader: bool,
    },
    /// There is no generation to roll back to: none is earlier, or no copy of one was kept
    /// ([`Settings::rollback_copies_max`](crate::Settings::rollback_copies_max)).
    #[stage(Host)]
    #[text("there is no earlier generation to go back to")]
    NoEarlierGeneration,
    /// Another candidate or a rollback is in progress, or was faster, or the calling thread runs an initialiser or a
    /// finaliser of an image. Try again.
    #[stage(Host)]
    #[text("{what}")]
    Busy {
        /// What is in progress.
        what: &'static str,
    },
}

impl ErrorKind {
    /// Whether the same bytes may be accepted later, for [`Error::is_transient`](super::Error::is_transient).
    pub(super) fn is_transient(&self) -> bool {
        let came_from_outside = match self {
            Self::Died { signal, .. } => !signal.is_some_and(signals::is_fault),
            Self::TimedOut { .. } => true,
            _ => false,
        };
        came_from_outside || self.stage().is_transient()
    }

    pub(crate) fn cannot_open(error: impl Into<SystemError>) -> Self {
        Self::CannotOpen {
            error: error.into(),
        }
    }

    pub(crate) fn cannot_copy(error: impl Into<SystemError>) -> Self {
        Self::CannotCopy {
            error: error.into(),
        }
    }

    pub(crate) fn no_thread(error: impl Into<SystemError>) -> Self {
        Self::NoThread {
            error: error.into(),
        }
    }

    pub(crate) fn trial(
        what: impl Into<Option<&'static str>>,
        error: impl Into<SystemError>,
    ) -> Self {
        Self::Trial {
            what: what.into(),
            error: error.into(),
        }
    }

    /// The root module (`None`) or a typed symbol was built with an incompatible version of abi_stable.
    pub(crate) fn abi_stable(symbol: Option<&str>, major: u32, minor: u32) -> Self {
        Self::AbiStable {
            symbol: symbol.map(str::to_owned),
            expected: abi_stable::ABI_STABLE_VERSION.to_string(),
            found: format!("{major}.{minor}"),
        }
    }

    /// The symbol `name` of a file cannot be used.
    pub(crate) fn bad_symbol(name: &str, problem: impl ToString) -> Self {
        Self::BadSymbol {
            name: name.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// The dynamic linker has failed with this message.
    pub(crate) fn link(message: impl ToString) -> Self {
        Self::Link {
            message: message.to_string(),
            advice: None,
        }
    }
}

/// The stage at which a candidate is refused for a library that it needs.
fn stage_of_library(cause: &ErrorKind) -> Stage {
    match cause.stage() {
        // `Inspect` would say that the candidate's own bytes are bad. It is a library that is.
        Stage::Inspect => Stage::Open,
        stage => stage,
    }
}

/// Why a file does not have a valid signature by [`Policy::public_key`](crate::Policy::public_key).
#[report(tag = "why", error)]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureProblem {
    /// The signature cannot be read. Put it next to the file, as `NAME.minisig`.
    #[text("{cause}")]
    Unreadable {
        /// What is wrong with that file.
        cause: Box<ErrorKind>,
    },
    /// The signature is of a kind that is not accepted, or its trusted comment has something that is not understood.
    /// Sign the file again.
    #[text("{problem}")]
    Malformed {
        /// What is wrong with it.
        problem: String,
    },
    /// The file was signed with another key.
    #[text("made with another key: expected {expected}, found {found}")]
    OtherKey {
        /// The id of the policy's key, as minisign shows it.
        expected: String,
        /// The id of the signature's key.
        found: String,
    },
    /// The signature is of other bytes.
    #[text("it does not match the file")]
    Mismatch,
}
