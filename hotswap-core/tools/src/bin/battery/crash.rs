//! Finds out where a host has died, by its own report of the crash ([`hotswap_core::crash`]): the program counter was
//! in code of a plugin, in a library that the plugin had called, nowhere, or elsewhere.

/// How the line of a report begins, before the name of the signal.
pub(crate) const MARK: &str = "hotswap: SIG";

/// The instruction was in the plugin.
pub(crate) const IN_PLUGIN: &str = "in the plugin";
/// It was in a library other than the dynamic linker, and the plugin had called that.
pub(crate) const IN_LIBRARY: &str = "in a library that the plugin had called";
/// Code of a plugin, or a pointer of its to a function, has led to an address where there is no code.
pub(crate) const NOWHERE: &str = "where no code is";
/// It was in the host, in the dynamic linker, or in a library that the plugin had not called.
pub(crate) const ELSEWHERE: &str = "elsewhere";

/// All places, in the order of the report.
pub(crate) const PLACES: [&str; 4] = [IN_PLUGIN, IN_LIBRARY, NOWHERE, ELSEWHERE];

/// Where the crash was that this line reports.
pub(crate) fn place(line: &str) -> &'static str {
    // After the name of the thread.
    let Some((_, what)) = line.split_once("\": ") else {
        return ELSEWHERE;
    };
    if what.starts_with("at ") {
        return NOWHERE;
    }
    let what = what.strip_prefix("in ").unwrap_or(what);
    if !what.starts_with('/')
        && !what.starts_with("the host, ")
        && !what.starts_with("code of no file")
    {
        return IN_PLUGIN;
    }
    let is_linker = what.contains("/ld-linux");
    // What a plugin has called while it is loaded has its code on the stack.
    let has_called =
        what.contains(", probably because of ") && !what.contains(", which the thread loads");
    if what.starts_with('/') && !is_linker && has_called {
        IN_LIBRARY
    } else {
        ELSEWHERE
    }
}
