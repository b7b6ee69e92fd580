//! The inspection of a file's bytes before the linker sees them.
//!
//! [`hotswap_elf`] inspects them; this module says for which process, and what hotswap wants to know of a plugin.

use abi_stable::library::ROOT_MODULE_LOADER_NAME;
use hotswap_elf::{Export, Facts, Machine, NotExported, Process, Query, Refusal};

use crate::{
    error::ErrorKind,
    system::{linker, memory::page_bytes},
};

/// Checks that the bytes are a library that this process can load, and that they define `export` if one is given. The
/// facts say whether the plugin has `unloadable!` (the marker).
pub(crate) fn inspect(bytes: &[u8], export: Option<Export<'_>>) -> Result<Facts, Refusal> {
    let query = Query {
        export,
        marker: Some(hotswap_unload::TABLE_SYMBOL),
    };
    hotswap_elf::inspect(bytes, query, this_process())
}

/// The reason of a refusal of a file that was to define `export`.
pub(super) fn kind(refusal: Refusal, export: Option<Export<'_>>) -> ErrorKind {
    match (refusal.why_not_exported(), export) {
        (
            Some(why),
            Some(Export::Static {
                name: ROOT_MODULE_LOADER_NAME,
                ..
            }),
        ) => ErrorKind::NoRootModule {
            problem: (why != NotExported::Absent).then(|| why.to_string()),
        },
        _ => ErrorKind::Malformed { refusal },
    }
}

/// Whether the bytes begin like an object for this machine. A loader that searches for a library skips objects for
/// other machines. It ends its search with an error at a file that is no object at all; that is left to the loader.
pub(super) fn is_for_this_machine(bytes: &[u8]) -> bool {
    hotswap_elf::is_for(bytes, this_process())
}

/// Checks the first bytes of a file: whether it may be a library for this process.
pub(super) fn check_beginning(beginning: &[u8]) -> Result<(), ErrorKind> {
    let checked = hotswap_elf::check_header(beginning, this_process());
    checked.map_err(|refusal| kind(refusal, None))
}

fn this_process() -> Process {
    let page_bytes = u64::try_from(page_bytes()).unwrap_or(0);
    let process = Process::new(Machine::NATIVE, page_bytes);
    if linker::applies_relr() {
        process
    } else {
        process.without_relr()
    }
}
