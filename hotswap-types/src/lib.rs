//! The interface between the demo and its plugins.
//!
//! Both sides depend on this package, and on nothing of each other.
//!
//! # Changing it
//!
//! New methods go to the end of [`Plugin`], and have a body: a host that meets a plugin without such a method runs that
//! body, and plugins that have it still load into a host that does not know it. Any other change is a new interface,
//! and needs a new version of this package: below 1.0 the minor version, from 1.0 on the major one.
#![forbid(unsafe_code)]

/// What a plugin offers.
#[hotswap_sdk::interface]
pub trait Plugin {
    /// A text that says which plugin this is.
    fn some_data(&self) -> String;

    /// From a number to a line of text.
    fn some_fn(&self, number: i64) -> String;

    /// From a text to a text. The error is for the caller alone.
    fn process(&self, text: &str) -> Result<String, String>;

    /// The same, for hosts that can wait: the plugin may sleep meanwhile, or ask another server. A plugin that does not
    /// have it answers with [`process`](Self::process).
    async fn answer(&self, text: String) -> Result<String, String> {
        self.process(&text)
    }
}

/// The type of the function `greet`, which a plugin may export beside: from a name to a greeting.
#[hotswap_sdk::function]
pub type Greet = fn(name: &str) -> String;
