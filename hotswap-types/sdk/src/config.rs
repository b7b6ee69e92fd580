//! The configuration that a host hands to a plugin.

use std::{fmt, sync::Arc};

/// The configuration of a plugin: text or bytes that the host passes to the plugin's constructor.
///
/// The constructor takes it as a parameter ([`plugin`](macro@crate::plugin)). Host and plugin agree on the format. A
/// host makes it from a text or bytes (`Config::from`). A clone shares the bytes.
///
/// Its `Debug` output shows only the length, because a configuration may contain secrets.
///
/// ```
/// use hotswap_sdk::Config;
///
/// let config = Config::from("limit = 3");
/// assert_eq!(config.text()?, "limit = 3");
/// assert!(Config::default().is_empty());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Config(Arc<[u8]>);

impl Config {
    /// Returns the configuration as bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the configuration as text.
    ///
    /// # Errors
    ///
    /// It is not UTF-8. The text of the error says where.
    pub fn text(&self) -> Result<&str, String> {
        str::from_utf8(&self.0).map_err(|error| format!("the configuration is not a text: {error}"))
    }

    /// Whether it is empty, which is the default.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for Config {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Config {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Config {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<String> for Config {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config({} bytes)", self.0.len())
    }
}
