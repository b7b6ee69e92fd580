//! Why a host cannot use a plugin.

use super::description::Description;

/// Why a plugin cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was built with an incompatible version of an interface.
    Version {
        /// The interface.
        interface: String,
        /// The versions that are compatible.
        expected: String,
        /// The plugin's version.
        found: String,
    },
    /// An interface or a type in it differs: where, what was expected, and what was found.
    Layout(String),
    /// The vtable has something else than the address of a function for this method.
    NotCode(String),
    /// Its constructor takes a host service with this interface, which the host does not have.
    MissingHostService(String),
    /// Its constructor has returned an error, with this text.
    Failed(String),
    /// Its constructor has panicked, with this text.
    Panicked(String),
}

/// Checks that the versions of both sides are compatible.
///
/// # Errors
///
/// They are not.
pub(super) fn check_version(host: &Description, plugin: &Description) -> Result<(), Refused> {
    let expected = compatible_versions(&host.version);
    if expected == compatible_versions(&plugin.version) {
        return Ok(());
    }
    Err(Refused::Version {
        interface: host.name.clone(),
        expected,
        found: plugin.version.clone(),
    })
}

/// The versions that are compatible by cargo's rule: the same major version, and below 1.0 the same minor version too.
fn compatible_versions(version: &str) -> String {
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    match major {
        "0" => format!("0.{minor}.x"),
        major => format!("{major}.x"),
    }
}
