//! The reason why the inspection refuses a file.

use std::fmt;

/// Why a file is refused: one line, lower case, without a full stop. Offsets and addresses are in hexadecimal.
///
/// Text from the file is cut off after 120 bytes, and every character that is not printable ASCII is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal(String);

impl Refusal {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// Returns a refusal.
pub(crate) fn refuse<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(text))
}

/// The first bytes of some text from the file, in the form in which a refusal shows them.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 120;
    let shown = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes);
    let mut text = shown.escape_ascii().to_string();
    if shown.len() < bytes.len() {
        text.push('…');
    }
    text
}
