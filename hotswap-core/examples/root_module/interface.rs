//! The interface: a root module, which plugin and host both know. In a program of one's own, a package of its own.

use abi_stable::{
    StableAbi, library::RootModule, package_version_strings, sabi_types::VersionStrings,
};
// What its function takes and returns.
pub use abi_stable::std_types::RStr;
pub use hotswap_sdk::Answer;

/// What a plugin exports.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = GreeterRef)))]
#[sabi(missing_field(option))]
pub struct Greeter {
    /// Greets whoever is named.
    #[sabi(last_prefix_field)]
    pub greet: extern "C" fn(RStr<'_>) -> Answer,
}

impl RootModule for GreeterRef {
    abi_stable::declare_root_module_statics! {GreeterRef}

    const BASE_NAME: &'static str = "greeter";
    const NAME: &'static str = "greeter";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
