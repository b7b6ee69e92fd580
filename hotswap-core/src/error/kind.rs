//! [`ErrorKind`]: every reason for which a candidate is refused, with its data, its text and its form for programs. A long
//! file, because a reason is written down in one place; which stage and setting it has is in `consequences`.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use hotswap_elf::Refusal;
use humantime::format_rfc3339_seconds;

use super::{
    Stage,
    details::{By, Death, Distrust, Exported, OpenError, SystemError, UnloadingAt},
};
use crate::{
    digest::Sha256,
    escape::Escaped,
    report::{Bytes, RetiredPlugins, report},
};

/// Why a candidate is refused, with what was expected and what was found.
///
/// Its [`Display`](std::fmt::Display) is one line without the stage, the path and the setting. Each variant says what has
/// happened and what to do about it.
#[report(tag = "kind", content = "data", error)]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The path is empty, has a NUL byte in it, or is a bare name. Write `./` before a file in the current folder.
    #[text("{problem}")]
    InvalidPath {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is nothing at the path. Build or copy the file.
    #[text("{}", if *is_link { "a symbolic link to nowhere" } else { "no such file" })]
    NotFound {
        /// Whether the path itself is a symbolic link.
        is_link: bool,
    },
    /// The path leads to something else than a regular file. Nothing else is ever opened.
    #[text("{found}")]
    NotAFile {
        /// What it leads to.
        found: &'static str,
    },
    /// The system does not let this process open the file, or `/proc`, which that needs.
    #[text("{}", OpenError(error))]
    CannotOpen {
        /// What the system says.
        error: SystemError,
    },
    /// The file, or a folder that leads to it, has not come to rest. Try again when its writer is done; better, write to
    /// another name and rename it.
    #[text("{what}")]
    KeepsChanging {
        /// What was seen of it.
        what: &'static str,
    },
    /// The file is larger than [`Policy::file_bytes_max`](crate::Policy::file_bytes_max), or a signature or serial
    /// file is larger than such a file is.
    #[text("{bytes} bytes are more than the {bytes_max} that are accepted")]
    TooLarge {
        /// The size.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// The folder of [`Policy::root`](crate::Policy::root) is not there. Correct the policy.
    #[text("the root {path}: {error}")]
    Root {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: SystemError,
    },
    /// Somebody who is not trusted could have put the file there or can change it, or the policy does not allow the place.
    #[text("{path} {why}")]
    NotTrusted {
        /// The file, or a folder or link that leads to it, with all links before it followed.
        path: PathBuf,
        /// What is wrong with it.
        #[serde(flatten)]
        why: Distrust,
    },
    /// The bytes are none of those that [`Policy::sha256`](crate::Policy::sha256) allows. Deploy the file that was meant.
    #[text("SHA-256: expected {}, found {found}", expected.0.iter().map(Sha256::to_string).collect::<Vec<_>>().join(" or "))]
    Pin {
        /// What the policy allows.
        expected: Vec<Sha256>,
        /// What the bytes are.
        found: Sha256,
    },
    /// The policy asks for a serial number and has no [`Policy::public_key`](crate::Policy::public_key), so that nothing
    /// would vouch for the number. Set the key.
    #[text("a serial number is asked for, which only a signature has, and no signature is")]
    NoPublicKey,
    /// The file is not signed with [`Policy::public_key`](crate::Policy::public_key).
    #[text("its signature {path}: {why}")]
    Signature {
        /// The file of the signature.
        path: PathBuf,
        /// What is wrong with it.
        #[serde(flatten)]
        why: SignatureProblem,
    },
    /// The signature counts no longer. Sign the file, or a newer one, again.
    #[text("its signature {path}: it has expired at {}", format_rfc3339_seconds(*at))]
    Expired {
        /// The file of the signature.
        path: PathBuf,
        /// Since when.
        at: SystemTime,
    },
    /// The signature has no serial number, or one below what was accepted before or what the host asks for: an old
    /// plugin. Deploy a newer one.
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
    /// The file of [`Policy::serial_file`](crate::Policy::serial_file) cannot be used. Restore it; a new one has `0` in it.
    #[text("the highest serial number, in {path}: {problem}")]
    SerialFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The serial number of a candidate that would be accepted cannot be written down.
    #[text("the serial number {serial} cannot be kept in {path}: {error}")]
    SerialNotKept {
        /// The file of [`Policy::serial_file`](crate::Policy::serial_file).
        path: PathBuf,
        /// The candidate's number.
        serial: u64,
        /// What the system says, or who is in the way.
        error: SystemError,
    },
    /// A library that the candidate needs would be refused itself.
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
    /// A library is only in a folder that is relative to the current folder, where the policy cannot be held. Use
    /// absolute folders, or `$ORIGIN`.
    #[text(
        "it is only in the folder \"{folder}\", which is relative to the current folder, and libraries are not looked for \
         there"
    )]
    RelativeFolder {
        /// As the library path of the file or the environment has it.
        folder: PathBuf,
    },
    /// The candidate needs more libraries, by way of others, than are looked for.
    #[text("needs more than {libraries_max} libraries by way of others")]
    TooManyLibraries {
        /// The bound.
        libraries_max: usize,
    },
    /// The file cannot be read, or no copy of it can be made. A lack of memory or descriptors may pass.
    #[text("{error}")]
    CannotCopy {
        /// What the system says.
        error: SystemError,
    },
    /// The file is not one that the dynamic linker could open without harm, or it does not export what is needed. Build it
    /// anew, as a `cdylib` for this machine.
    #[text("{refusal}")]
    Malformed {
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// The file takes Rust code from another library, and could not be unloaded with any certainty. Build it with std and
    /// all crates in it.
    #[text(
        "takes Rust code from another library ({}symbol {symbol}): build it without `-C prefer-dynamic`, and without \
         dependencies of crate-type `dylib`",
        library.as_ref().map_or_else(String::new, |it| format!("{it}, "))
    )]
    SharesRust {
        /// The library, if it can be told.
        library: Option<String>,
        /// One of the symbols that it takes from there.
        symbol: String,
    },
    /// The dynamic linker cannot load it, mostly for want of a symbol or a library.
    #[text("{message}[; {advice}]")]
    Link {
        /// What the linker says.
        message: String,
        /// What may help.
        advice: Option<String>,
    },
    /// The file exports no abi_stable root module. Export one (`#[export_root_module]`).
    #[text("it exports no abi_stable root module")]
    NoRootModule,
    /// What it exports as one is not a root module, or is damaged. Build it anew.
    #[text("{problem}")]
    BadHeader {
        /// What is wrong with it.
        problem: String,
    },
    /// It was built with a version of abi_stable that this host cannot read. Build it with the host's.
    #[text("[`{symbol}` is of ]another version of abi_stable: expected {expected}, found {found}")]
    AbiStable {
        /// The typed symbol that it is about; none: the root module.
        symbol: Option<String>,
        /// The host's.
        expected: String,
        /// The candidate's.
        found: String,
    },
    /// It was built with a version of the interface that does not go with the host's. Build it with that.
    #[text("the interface {interface}: expected {expected}, found {found}")]
    Version {
        /// The package of the interface.
        interface: String,
        /// The versions that are accepted.
        expected: String,
        /// The candidate's.
        found: String,
    },
    /// A type of the interface, or of a typed symbol, is not the one that the host has. The error's
    /// [`source`](std::error::Error::source) has all that is known of it.
    #[text("[`{symbol}`: ]{difference}")]
    Layout {
        /// The typed symbol that it is about; none: the root module.
        symbol: Option<String>,
        /// Where they differ, what was expected there, and what was found.
        difference: String,
    },
    /// A value that outlives generations has another type than the host asks for ([`with_ref`](crate::Hotswap::with_ref)).
    #[text("{problem}")]
    RefType {
        /// The name of the value.
        name: String,
        /// What was expected and found, in words that have the name.
        problem: String,
    },
    /// Its constructor has returned an error. Whatever that says is missing may be there later.
    #[text("its constructor failed: {message}")]
    ConstructorFailed {
        /// The error.
        message: String,
    },
    /// One of the functions of its root module does not lie in its code: the file is damaged.
    #[text("its function `{function}` is not code")]
    NotCode {
        /// The function.
        function: String,
    },
    /// It does not export the symbol that is asked for.
    #[text("no `{name}`; {}", Exported(found.0))]
    NoSymbol {
        /// What is asked for.
        name: String,
        /// The typed symbols that it exports.
        found: Vec<String>,
    },
    /// What it exports under the name cannot be used. Build it anew.
    #[text("{problem}")]
    BadSymbol {
        /// The symbol.
        name: String,
        /// What is wrong with it, in words that name it.
        problem: String,
    },
    /// The host's probe does not like what the candidate does.
    #[text("{reason}")]
    Probe {
        /// What the probe says.
        reason: String,
    },
    /// Something that was run for the candidate has panicked: its constructor, or the host's probe.
    #[text("{who} panicked[: {message}]")]
    Panicked {
        /// How far the candidate came.
        stage: Stage,
        /// What has panicked.
        who: &'static str,
        /// What the panic says, where that can be read.
        message: Option<String>,
    },
    /// Its update has failed or panicked. Nothing of what it asked for was done.
    #[text("{reason}")]
    Update {
        /// What it says.
        reason: String,
    },
    /// There can be no trial: the system does not let one be started or listened to.
    #[text("{what}{error}")]
    Trial {
        /// What cannot be done, and `: `.
        what: &'static str,
        /// What the system says.
        error: SystemError,
    },
    /// The candidate has ended the process of its trial.
    #[text(
        "{}[; it said: {said}]",
        Death { exit_code: *exit_code, signal: *signal, has_begun: *has_begun, has_finished: *has_finished }
    )]
    Died {
        /// How far it came.
        stage: Stage,
        /// With which exit code, if with one.
        exit_code: Option<i32>,
        /// By which signal, if by one.
        signal: Option<i32>,
        /// Whether the trial had begun: `Trial::at_top_of_main` was reached.
        has_begun: bool,
        /// Whether the trial had passed.
        has_finished: bool,
        /// The last line on its standard error.
        said: Option<String>,
    },
    /// The trial did not end in time ([`Trial::with_timeout`](crate::Trial::with_timeout)).
    #[text("no end after {timeout:?}, in a trial")]
    TimedOut {
        /// How far it came.
        stage: Stage,
        /// How long it had.
        timeout: Duration,
    },
    /// The trial has found a reason that it cannot give as data.
    #[text("{reason}")]
    RefusedInTrial {
        /// How far the candidate came.
        stage: Stage,
        /// What it says.
        reason: String,
    },
    /// Loading and unloading it, in a trial, leaves descriptors open, or closes others than its own.
    #[text(
        "{}: {which}",
        if *are_lost { "it closes or replaces descriptors that are not its own" }
        else { "each time it is loaded, it leaves descriptors open" }
    )]
    Descriptors {
        /// Whether they were there before.
        are_lost: bool,
        /// What they lead to.
        which: Vec<String>,
    },
    /// The system does not let this process start a thread. Raise its limits.
    #[text("no thread can be started: {error}")]
    NoThread {
        /// What the system says.
        error: SystemError,
    },
    /// There is not enough memory left to go on without the danger that an allocation ends the process. Raise its limits.
    #[text(
        "not enough memory is left: {bytes} bytes are needed{}",
        threads.map_or_else(String::new, |it| format!(" for its thread-locals on {it} threads"))
    )]
    NoMemory {
        /// How much is needed.
        bytes: u64,
        /// The threads for whose thread-locals it is needed, if it is needed for those.
        threads: Option<u64>,
    },
    /// The system does not let this process map as many parts of memory as an image and a thread take. Raise
    /// `vm.max_map_count`.
    #[text("{mappings} memory mappings cannot be made (vm.max_map_count): {error}")]
    NoMappings {
        /// How many are needed.
        mappings: usize,
        /// What the system says.
        error: SystemError,
    },
    /// As many retired plugins are still mapped as may be. See who holds them; a process that has lost them for good is
    /// best restarted.
    #[text(
        "{} still mapped, {}, and no more are accepted ({} is {}): {}",
        RetiredPlugins(*images), Bytes(*bytes),
        if *is_of_bytes { "Limits::retired_bytes_max" } else { "Limits::retired_images_max" },
        if *is_of_bytes { Bytes(*max).to_string() } else { max.to_string() }, left.0.join("; ")
    )]
    Retired {
        /// How many.
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
    /// The thread that unloads has not come to an end with the generations before in time. Swap less often, or look for
    /// finalisers that take long.
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
        /// Whether it is a refused candidate.
        is_refused: bool,
    },
    /// This process is a copy (`fork`) of the one that has made the swap point or the loader. Make one here.
    #[text(
        "this process was forked off the one that {made}, and has none of its threads; {remedy} here"
    )]
    Forked {
        /// What the other process has done.
        made: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// There is nothing to roll back to: no earlier generation, or no copy of one
    /// ([`Settings::rollback_copies_max`](crate::Settings::rollback_copies_max)).
    #[text("there is no earlier generation to go back to")]
    NoEarlierGeneration,
    /// Another candidate or a rollback is at the same thing. Try again.
    #[text("{what}")]
    Busy {
        /// What is under way.
        what: &'static str,
    },
}

/// Why a file is not signed as [`Policy::public_key`](crate::Policy::public_key) asks for.
#[report(tag = "why", error)]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureProblem {
    /// The signature cannot be read. Put it beside the file, as `NAME.minisig`.
    #[text("{cause}")]
    Unreadable {
        /// What is wrong with that file.
        cause: Box<ErrorKind>,
    },
    /// It is not a signature of the kind that is accepted, or its trusted comment says something that is not
    /// understood. Sign the file anew.
    #[text("{problem}")]
    Malformed {
        /// What is wrong with it.
        problem: String,
    },
    /// Somebody else has signed the file.
    #[text("made with another key: expected {expected}, found {found}")]
    OtherKey {
        /// The number of the policy's key, as minisign shows it.
        expected: String,
        /// The number of the signature's key.
        found: String,
    },
    /// The signature is of other bytes.
    #[text("it does not match the file")]
    Mismatch,
}
