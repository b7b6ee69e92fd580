//! What the plugin does. Edit this while the demo runs, then:
//!
//! ```sh
//! cargo build
//! ```

/// Which plugin this is.
pub(crate) const SOME_DATA: &str = "the plugin as shipped";

/// From a number to a line of text.
pub(crate) fn some_fn(number: i64) -> String {
    format!("Adding to 10: {}", 10 + number)
}

/// From a name to a greeting. Exported by its own name, for hosts that want no more than that.
#[hotswap_sdk::export]
fn greet(name: &str) -> String {
    format!("Hello {name}")
}

/// From a text to a text. An error goes to this caller alone.
pub(crate) fn process(text: &str) -> Result<String, String> {
    Ok(format!("You said '{text}'"))
}
