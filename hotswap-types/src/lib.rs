//! The interface between the demo and its plugins.
//!
//! Both sides depend on this package, and on nothing of each other. [`Plugin`] lists what a plugin offers;
//! [`caught`] is what every offered function wraps its body in.
//!
//! # Changing it
//!
//! New fields go to the end of [`Plugin`], behind the one marked `last_prefix_field`, which stays where it is:
//! plugins that have them still load into a host that does not know them, and plugins that lack them into one that
//! does, and finds `None` there. Any other change is a new interface, and needs a new version of this package: below
//! 1.0 the minor version, from 1.0 on the major one.

use abi_stable::{
    StableAbi, library::RootModule, package_version_strings, sabi_types::VersionStrings,
    std_types::RStr,
};

pub use hotswap_sdk::{self as sdk, Answer, Fault, caught};
pub use hotswap_unload::unloadable;

/// What a plugin offers.
///
/// A host sees it as [`PluginRef`], with a method for each field.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginRef)))]
#[sabi(missing_field(option))]
pub struct Plugin {
    /// A text that says which plugin this is.
    pub some_data: RStr<'static>,
    /// From a number to a line of text.
    pub some_fn: extern "C" fn(i64) -> Answer,
    /// From a text to a text.
    #[sabi(last_prefix_field)]
    pub process: extern "C" fn(RStr<'_>) -> Answer,
}

/// The type of `greet`, which a plugin may export as a function of its own: from a name to a greeting.
#[hotswap_sdk::function]
pub type Greet = fn(name: &str) -> String;

impl RootModule for PluginRef {
    abi_stable::declare_root_module_statics! {PluginRef}

    const BASE_NAME: &'static str = "plugin";
    const NAME: &'static str = "hotswap-types";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
