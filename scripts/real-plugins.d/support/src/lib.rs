//! What the plugins of `scripts/real-plugins` have in common.

/// Exports a root module whose `process` answers with the build's letter and what `$work` makes of the text.
///
/// The feature `b` of the plugin's own package tells two builds of one source apart.
#[macro_export]
macro_rules! plugin {
    ($work:path) => {
        const BUILD: &str = if cfg!(feature = "b") { "B" } else { "A" };

        #[abi_stable::export_root_module]
        fn root_module() -> hotswap_types::PluginRef {
            const PLUGIN: &abi_stable::prefix_type::WithMetadata<hotswap_types::Plugin> =
                &abi_stable::prefix_type::WithMetadata::new(hotswap_types::Plugin {
                    some_data: abi_stable::std_types::RStr::from_str(BUILD),
                    some_fn,
                    process,
                });
            hotswap_types::PluginRef(PLUGIN.static_as_prefix())
        }

        extern "C" fn some_fn(number: i64) -> hotswap_types::Answer {
            answer(&number.to_string())
        }

        extern "C" fn process(text: abi_stable::std_types::RStr<'_>) -> hotswap_types::Answer {
            answer(text.as_str())
        }

        fn answer(text: &str) -> hotswap_types::Answer {
            let work: fn(&str) -> Result<String, String> = $work;
            hotswap_types::caught(|| work(text).map(|text| format!("{BUILD} {text}")))
        }
    };
}
