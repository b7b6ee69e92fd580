//! Finds out where a host has died, by its own report of the crash ([`hotswap_core::crash`]): in code of a plugin or of
//! what it has brought along, in other code that the plugin had called, nowhere, or elsewhere.

/// How the line of a report begins, before the name of the signal.
pub(crate) const MARK: &str = "hotswap: SIG";
/// What the host's standard library says before it aborts because a panic of the plugin's has reached it: a function
/// pointer of the plugin led to a function of its own that panics and has no C ABI.
pub(crate) const FOREIGN_PANIC: &str = "fatal runtime error: Rust cannot catch foreign exceptions";

/// The instruction was in the plugin.
pub(crate) const IN_PLUGIN: &str = "in the plugin";
/// It was in a library that is only there because the plugin needs it.
pub(crate) const IN_NEEDED: &str = "in a library that only the plugin needs";
/// It was in another library, and the plugin had called that.
pub(crate) const IN_LIBRARY: &str = "in a library that the plugin had called";
/// It was in the host, where a damaged pointer of the plugin's to a function had led.
pub(crate) const IN_HOST: &str = "in the host, which the plugin had called";
/// It was in `abort`, which the host calls when a panic of the plugin's reaches it.
pub(crate) const AT_PANIC: &str = "in the host, where a panic of the plugin's had arrived";
/// Code of a plugin, or a pointer of its to a function, has led to an address where there is no code.
pub(crate) const NOWHERE: &str = "where no code is";
/// It was in code that the plugin had not called.
pub(crate) const ELSEWHERE: &str = "elsewhere";

/// All places, in the order of the report.
pub(crate) const PLACES: [&str; 7] = [
    IN_PLUGIN, IN_NEEDED, IN_LIBRARY, IN_HOST, AT_PANIC, NOWHERE, ELSEWHERE,
];

/// Where the crash was that this line reports. `libraries` is the folder of what only plugins need.
pub(crate) fn place(line: &str, libraries: &str) -> &'static str {
    // After the name of the thread.
    let Some((_, what)) = line.split_once("\": ") else {
        return ELSEWHERE;
    };
    if what.starts_with("at ") {
        return NOWHERE;
    }
    let what = what.strip_prefix("in ").unwrap_or(what);
    if what.starts_with(libraries) {
        return IN_NEEDED;
    }
    if !what.starts_with('/')
        && !what.starts_with("the host, ")
        && !what.starts_with("code of no file")
    {
        return IN_PLUGIN;
    }
    // What has called other code is on the stack. While the dynamic linker only maps a plugin, that is not.
    let has_called = [", whose offset ", ", which the thread has called"];
    let has_called = has_called.iter().any(|it| what.contains(it));
    if has_called && what.starts_with('/') {
        IN_LIBRARY
    } else if has_called && what.starts_with("the host, ") {
        IN_HOST
    } else {
        ELSEWHERE
    }
}
