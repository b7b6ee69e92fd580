//! What is asked of the bytes of a file before this process is given them.
//!
//! [`hotswap_elf`] judges them; this says for which process, and what hotswap wants to know of a plugin.

use hotswap_elf::{Export, Facts, Machine, Process, Query, Refusal};

/// Whether the bytes are a library that this process can be given, and define `export` if one is named. A plugin with
/// `unloadable!` has the marker.
pub(crate) fn inspect(bytes: &[u8], export: Option<Export<'_>>) -> Result<Facts, Refusal> {
    let query = Query {
        export,
        marker: Some(hotswap_unload::TABLE_SYMBOL),
    };
    hotswap_elf::inspect(bytes, query, this_process())
}

/// Whether the bytes begin as an object for this machine does. When the loader looks for a library, it passes over an
/// object for another machine. At what is no object at all it ends its search with an error; that is left to it.
pub(super) fn is_for_this_machine(bytes: &[u8]) -> bool {
    hotswap_elf::is_for(bytes, this_process())
}

fn this_process() -> Process {
    let page_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(0);
    Process::new(Machine::NATIVE, page_bytes)
}
