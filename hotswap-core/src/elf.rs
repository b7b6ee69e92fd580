//! Is this file a shared object that the dynamic loader can open without harm?
//!
//! glibc's loader trusts what it opens. A truncated library is SIGBUS, a half-zeroed one SIGSEGV, a
//! damaged version table `exit(127)` by an assertion, a cycle in a hash chain a hang, and none of them
//! can be caught in-process (glibc 2.36, 2026-11). So the bytes are judged here first, and only bytes
//! that passed are given to `dlopen`.
//!
//! Invariants:
//! - [`inspect`] is pure and total: on any bytes it returns, without panic, in time linear in the file,
//!   with no allocation larger than a small multiple of the file.
//! - It is stricter than the ELF specification only where the loader is not careful; what every linker
//!   produces passes.
//! - `object` lends the layout of the structures, nothing else. All judgement is here.
//!
//! It does not know what code does: constructors, IFUNC resolvers and the libraries a file depends on
//! may still kill the process. Only a trial in another process tells. It reads no debug information, no
//! instructions, no 32-bit files, which are refused, and section headers only to name what it refuses.
//!
//! One noun a file, each using only those before it: [`kind`] what a file is when it is not ours,
//! [`header`] the file header, [`memory`] where the loader will put what, [`dynamic`] the dynamic
//! table, [`notes`], [`versions`], [`index`] the hash table, [`imports`] what names tell, [`symbols`], [`tables`]
//! where all those lie, [`calls`] the functions that the loader itself will call, [`targets`] the places that relocations
//! write to, and [`relocations`].

mod calls;
mod dynamic;
mod header;
mod imports;
mod index;
mod kind;
mod memory;
mod notes;
mod relocations;
mod symbols;
mod tables;
mod targets;
mod versions;

#[cfg(test)]
mod tests;

use std::fmt;

use object::elf::{EM_NONE, Machine};

pub(crate) use self::header::this_machine;

/// What the host wants to find in the file, by its symbol name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Export<'a> {
    /// A `static` that may be read as `size_min` bytes.
    Static {
        /// The symbol's name, without a NUL.
        name: &'a str,
        /// How many bytes the host will read at its address.
        size_min: u64,
    },
    /// A function.
    Function {
        /// The symbol's name, without a NUL.
        name: &'a str,
    },
    /// All whose names begin with `prefix`, if there are any: each a `static` that may be read as `size_min`
    /// bytes. [`Facts::named`] has the rest of their names.
    Prefixed {
        /// What the names begin with.
        prefix: &'a str,
        /// How many bytes the host will read at each address.
        size_min: u64,
    },
}

impl Export<'static> {
    /// No symbol has this in its name.
    pub(crate) const NOTHING: Self = Self::Prefixed {
        prefix: "\0",
        size_min: 0,
    };
}

/// What later stages need to know of a file that passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The name it gives itself. glibc returns an image already loaded when another library *needs*
    /// this name.
    pub(crate) soname: Option<String>,
    /// The libraries it needs, in order: the first to look at when `dlopen` says no.
    pub(crate) needed: Vec<String>,
    /// Where it looks for them (`DT_RUNPATH`).
    pub(crate) runpath: Option<String>,
    /// Where it and what it needs look for them (`DT_RPATH`). Of a file with both, there is only the other.
    pub(crate) rpath: Option<String>,
    /// Linked with `-z nodelete`: never unmapped, whatever we do.
    pub(crate) nodelete: bool,
    /// What to change in the file so that it is not.
    pub(crate) without_nodelete: Vec<Change>,
    /// Defines `STB_GNU_UNIQUE` symbols: once one is bound, glibc never unmaps the image.
    pub(crate) unique_symbols: bool,
    /// One of them is a static of a class in namespace `std`, such as libstdc++ has some of too.
    pub(crate) unique_in_std: bool,
    /// What to change in the file so that they are weak symbols.
    pub(crate) without_unique: Vec<Change>,
    /// Defines the table of the plugin kit (`unloadable!`).
    pub(crate) unloadable: bool,
    /// Can register thread-exit destructors with the C library: an image whose thread-locals have
    /// `Drop` stays mapped as long as the thread that touched them lives.
    pub(crate) thread_exit_hook: bool,
    /// Can make pthread keys, whose destructors libc calls at a thread's end whether or not the image is
    /// still there.
    pub(crate) makes_keys: bool,
    /// Can start threads, of which nobody can tell whether they have ended.
    pub(crate) starts_threads: bool,
    /// The imported functions, as a programmer calls them and sorted, that keep something of the image which
    /// `dlclose` does not take back and the kit does not count.
    pub(crate) leaves: Vec<&'static str>,
    /// A symbol that is taken from a Rust library: std, or another crate, is shared with others.
    pub(crate) imports_rust: Option<String>,
    /// Has thread-local storage.
    pub(crate) thread_locals: bool,
    /// How much of it each thread has.
    pub(crate) tls_bytes: u64,
    /// Its thread-locals must lie in the static TLS block, of which a running process has little left
    /// (about 1.6 KB in glibc 2.36): loading it a few times may fail.
    pub(crate) static_tls: bool,
    /// The loader must write into its code to relocate it.
    pub(crate) text_relocations: bool,
    /// Asks for an executable stack, by a flag or by lack of one: old loaders then make every thread's
    /// stack executable, newer ones (glibc 2.41) refuse to open it.
    pub(crate) executable_stack: bool,
    /// The linker's build id in hexadecimal: the same bytes of code or not, for the operator.
    pub(crate) build_id: Option<String>,
    /// How many functions `dlopen` will run before it returns.
    pub(crate) init_functions: usize,
    /// Relocation runs code of the file (IFUNC resolvers).
    pub(crate) ifuncs: bool,
    /// Of an [`Export::Prefixed`], what follows the prefix in each name, sorted.
    pub(crate) named: Vec<String>,
}

impl Facts {
    /// How much of the static TLS block it takes up, if its thread-locals must lie there.
    pub(crate) fn static_tls_bytes(&self) -> Option<u64> {
        self.static_tls.then_some(self.tls_bytes)
    }
}

/// Another byte in the place of one of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Where it is in the file.
    pub(crate) offset: u64,
    /// What the file has there.
    pub(crate) from: u8,
    pub(crate) to: u8,
}

/// Why a file is refused: one line, lower case, without a full stop; offsets and addresses in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(String);

impl Refusal {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// Judges the bytes of a candidate.
///
/// Costs 0.015 ms for a release plugin of 0.5 MB, 0.03 ms for a debug plugin of 10 MB (2026-11): only
/// what the loader itself would read is touched.
///
/// # Errors
/// A [`Refusal`] when the file is something else, is for another machine, is damaged in a way that the
/// loader would not survive, or does not define `export` such that `dlsym` finds it.
pub(crate) fn inspect(bytes: &[u8], export: Export<'_>) -> Result<Facts, Refusal> {
    inspect_for(bytes, export, Process::this()).map_err(|refusal| {
        if header::is_debug_information(bytes) {
            return Refusal::new(DEBUG_INFORMATION);
        }
        refusal
    })
}

/// What is really the matter with a file that has lost its code, whatever of it is missed first.
const DEBUG_INFORMATION: &str = "debug information alone, without the library that it was split from \
     (objcopy --only-keep-debug): give that";

/// Whether the bytes begin as an object for this machine does. When the loader looks for a library, it passes over an
/// object for another machine. At what is no object at all, such as a linker script, it ends its search with an error
/// ("invalid ELF header", "file too short"); that is left to it.
pub(crate) fn is_for_this_machine(bytes: &[u8]) -> bool {
    header::is_for(bytes, Process::this())
}

/// What a library needs in its turn, and where it looks for that. It need not export anything.
pub(crate) fn inspect_library(bytes: &[u8]) -> Result<Facts, Refusal> {
    inspect(bytes, Export::NOTHING)
}

/// The process that would load the file.
#[derive(Clone, Copy, Debug)]
struct Process {
    /// `EM_NONE` when we have no name for it: the machine is then left to the loader.
    machine: Machine,
    page_bytes: u64,
}

impl Process {
    fn this() -> Self {
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(0);
        Self {
            machine: header::this_machine(),
            // A page size that is no power of two is no page size.
            page_bytes: if page.is_power_of_two() { page } else { 4096 },
        }
    }

    /// Whether relocation types of this machine are known here.
    fn knows_relocations(self) -> bool {
        self.machine != EM_NONE && relocations::knows(self.machine)
    }
}

fn inspect_for(bytes: &[u8], export: Export<'_>, process: Process) -> Result<Facts, Refusal> {
    let segments = header::segments(bytes, process)?;
    let memory = memory::Memory::new(bytes, segments, process)?;
    let dynamic = dynamic::Dynamic::read(&memory)?;
    let mut facts = Facts {
        text_relocations: dynamic.text_relocations,
        nodelete: dynamic.nodelete,
        without_nodelete: dynamic.without_nodelete.clone(),
        static_tls: dynamic.static_tls,
        executable_stack: memory.executable_stack,
        thread_locals: memory.tls.is_some(),
        tls_bytes: memory.tls.as_ref().map_or(0, |tls| tls.bytes),
        build_id: notes::read(&memory, segments.all)?,
        ..Facts::default()
    };
    dynamic.name_libraries(&mut facts);
    let versions = versions::Versions::read(&memory, &dynamic)?;
    let symbols = symbols::Symbols::read(&memory, &dynamic, &versions, process)?;
    symbols.check(&memory, &mut facts)?;
    facts.unloadable = symbols.has_static(hotswap_kit::TABLE_SYMBOL);
    let tables = tables::Tables::new(&memory, &dynamic, &versions, &symbols)?;
    let mut calls = calls::Calls::read(&memory, &dynamic)?;
    relocations::check(
        &memory, &dynamic, &symbols, &tables, &mut calls, &mut facts, process,
    )?;
    facts.init_functions = calls.check(&memory, &tables, process)?;
    match export {
        Export::Static { name, size_min } => symbols.find(&memory, name, Some(size_min))?,
        Export::Function { name } => symbols.find(&memory, name, None)?,
        Export::Prefixed { prefix, size_min } => {
            facts.named = symbols.find_all(&memory, prefix, size_min)?;
        }
    }
    Ok(facts)
}

/// Shorthand for the one way out.
fn refuse<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(text))
}
