//! Inspects the bytes of a file.
//!
//! [`inspect`] is pure and total: it returns on any bytes, without a panic, in time linear in the size of the file,
//! and without an allocation larger than a small multiple of that size. It reads no debug information and no
//! instructions. It reads section headers only to find the right words for a refusal.

use crate::{
    calls::Calls,
    dynamic::Dynamic,
    exports::Exports,
    facts::Facts,
    header,
    memory::Memory,
    notes,
    process::Process,
    query::{Export, Query},
    refusal::Refusal,
    relocations,
    symbols::Symbols,
    tables::Tables,
    versions::Versions,
};

/// The refusal of a file that has lost its code, whichever check fails first.
const DEBUG_INFORMATION: &str = "debug information alone, without the library that it was split from \
     (objcopy --only-keep-debug): give that";

/// Checks whether `process` can open the bytes of a file.
///
/// It reads only what the loader itself would read, in time linear in the size of the file. It does no I/O.
///
/// # Errors
///
/// A [`Refusal`] when the file is something else, is for another machine, is damaged in a way that the loader would
/// not survive, or does not define [`Query::export`] such that `dlsym` finds it.
pub fn inspect(bytes: &[u8], query: Query<'_>, process: Process) -> Result<Facts, Refusal> {
    checked(bytes, query, process).map_err(|refusal| {
        if header::is_debug_information(bytes) {
            return Refusal::new(DEBUG_INFORMATION);
        }
        refusal
    })
}

fn checked(bytes: &[u8], query: Query<'_>, process: Process) -> Result<Facts, Refusal> {
    let segments = header::segments(bytes, process)?;
    let memory = Memory::new(bytes, segments, process)?;
    let dynamic = Dynamic::read(&memory)?;
    let mut facts = Facts {
        nodelete: dynamic.nodelete,
        without_nodelete: dynamic.without_nodelete.clone(),
        executable_stack: memory.executable_stack,
        static_tls: dynamic.static_tls,
        tls_bytes: memory.tls.as_ref().map_or(0, |tls| tls.bytes),
        build_id: notes::read(&memory, segments.all)?,
        ..Facts::default()
    };
    dynamic.record_libraries(&mut facts);
    let versions = Versions::read(&memory, &dynamic)?;
    let symbols = Symbols::read(&memory, &dynamic, &versions, process)?;
    symbols.check(&memory, &mut facts)?;
    let tables = Tables::new(&memory, &dynamic, &versions, &symbols)?;
    let mut calls = Calls::read(&memory, &dynamic)?;
    facts.static_tls |=
        relocations::check(&memory, &dynamic, &symbols, &tables, &mut calls, process)?;
    calls.check(&memory, &tables, process)?;
    let exports = Exports::new(&memory, &symbols);
    facts.has_marker = query.marker.is_some_and(|name| exports.has_static(name));
    match query.export {
        None => {}
        Some(Export::Static { name, size_min }) => exports.check_static(name, size_min)?,
        Some(Export::Function { name }) => exports.check_function(name)?,
        Some(Export::Prefixed { prefix, size_min }) => {
            facts.exported_names = exports.check_prefixed(prefix, size_min)?;
        }
    }
    Ok(facts)
}
