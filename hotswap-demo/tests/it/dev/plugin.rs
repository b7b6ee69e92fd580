//! A plugin that the tests edit.

use hotswap_types::Plugin;

#[derive(Default)]
struct MyPlugin;

#[hotswap_sdk::plugin]
impl Plugin for MyPlugin {
    fn some_data(&self) -> String {
        "one".to_owned()
    }

    fn some_fn(&self, number: i64) -> String {
        format!("number {number}")
    }

    fn process(&self, text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
}
