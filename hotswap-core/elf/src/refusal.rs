//! The reason why the inspection refuses a file.

use std::fmt;

/// Why a file is refused: one line, lower case, without a full stop. Offsets and addresses are in hexadecimal.
///
/// Text from the file is cut off after 120 bytes, and every character that is not printable ASCII is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    text: String,
    not_exported: Option<NotExported>,
}

/// Why `dlsym` does not find a symbol in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotExported {
    /// The file has no symbol of this name.
    Absent,
    /// The file only imports it.
    Imported,
    /// The symbol is local.
    Local,
    /// The symbol has hidden or internal visibility.
    Hidden,
    /// The symbol has no address.
    WithoutAddress,
    /// The symbol is in no hash table, or only in an old version.
    NotIndexed,
}

impl Refusal {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            not_exported: None,
        }
    }

    pub(crate) fn not_exported(symbol: &str, why: NotExported) -> Self {
        Self {
            text: format!("does not export {symbol}: {why}"),
            not_exported: Some(why),
        }
    }

    /// Why `dlsym` does not find the symbol that the query asks for ([`Query::export`](crate::Query::export)). `None`
    /// if the file is refused for another reason.
    pub fn why_not_exported(&self) -> Option<NotExported> {
        self.not_exported
    }
}

impl fmt::Display for NotExported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "no such symbol",
            Self::Imported => "it only imports that symbol",
            Self::Local => "the symbol is local",
            Self::Hidden => "the symbol is hidden",
            Self::WithoutAddress => "the symbol has no address",
            Self::NotIndexed => "the symbol is in no hash table, or only in an old version",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
