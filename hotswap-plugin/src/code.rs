//! What the plugin does. Edit and save this while the demo runs:
//!
//! ```sh
//! cargo run -p hotswap-demo -- --dev
//! ```

use hotswap_types::Plugin;

#[derive(Default)]
struct MyPlugin;

#[hotswap_sdk::plugin]
impl Plugin for MyPlugin {
    fn some_data(&self) -> String {
        "the plugin as shipped".to_owned()
    }

    fn some_fn(&self, number: i64) -> String {
        format!("Adding to 10: {}", 10 + number)
    }

    fn process(&self, text: &str) -> Result<String, String> {
        Ok(format!("You said '{text}'"))
    }
}

/// Found by hosts that want no more of a file than this one function.
#[hotswap_sdk::export]
fn greet(name: &str) -> String {
    format!("Hello {name}")
}
