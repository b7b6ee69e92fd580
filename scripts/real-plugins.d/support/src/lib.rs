//! What the plugins of `scripts/real-plugins` and their host have in common. The interface is a root module of its own
//! and no trait, because a trait's plugin always has `unloadable!`, and each plugin is tried without it, too.

use abi_stable::{
    StableAbi, library::RootModule, package_version_strings, sabi_types::VersionStrings,
    std_types::RStr,
};
pub use hotswap_sdk::{Answer, caught};

/// What a plugin offers.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginRef)))]
pub struct Plugin {
    /// Does the plugin's work, and answers with the build's letter and what that has made of the text.
    #[sabi(last_prefix_field)]
    pub process: extern "C" fn(RStr<'_>) -> Answer,
}

impl RootModule for PluginRef {
    abi_stable::declare_root_module_statics! {PluginRef}

    const BASE_NAME: &'static str = "plugin";
    const NAME: &'static str = "support";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// What a plugin offers whose work is async. It is a trait, and always has `unloadable!`.
#[hotswap_sdk::interface]
pub trait AsyncPlugin {
    /// Does the plugin's work, and answers with the build's letter and what that has made of the text.
    async fn process(&self, text: String) -> Result<String, String>;
}

/// Exports a root module whose `process` does `$work`.
///
/// The feature `b` of the plugin's own package tells two builds of one source apart.
#[macro_export]
macro_rules! plugin {
    ($work:path) => {
        const BUILD: &str = if cfg!(feature = "b") { "B" } else { "A" };

        #[abi_stable::export_root_module]
        fn root_module() -> support::PluginRef {
            const PLUGIN: &abi_stable::prefix_type::WithMetadata<support::Plugin> =
                &abi_stable::prefix_type::WithMetadata::new(support::Plugin { process });
            support::PluginRef(PLUGIN.static_as_prefix())
        }

        extern "C" fn process(text: abi_stable::std_types::RStr<'_>) -> support::Answer {
            let work: fn(&str) -> Result<String, String> = $work;
            support::caught(|| work(text.as_str()).map(|text| format!("{BUILD} {text}")))
        }
    };
}
