//! How text from outside is written into what hotswap says: a name, a line, lines that are joined, an excerpt.
//!
//! A path, a name in a file, and what a plugin or the dynamic linker says may hold characters that move the cursor, end
//! the line, turn the direction of the text or cannot be seen. Every such text goes through this file before it becomes
//! part of a refusal, of an event, of a report or of a log. Which characters are escaped, [`hotswap_sdk`] says: what it
//! prints in a plugin goes by the same.
//!
//! It knows nothing of where a text comes from.

use std::{
    ffi::OsStr,
    fmt::{self, Display},
};

use hotswap_sdk::host::write_printable;
pub(crate) use hotswap_sdk::{one_line, printable};

/// A path or a name, on one line and so that no two look the same: quotes and backslashes are escaped too, and bytes
/// that are no text are shown as `\xFF`.
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: AsRef<OsStr>> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_ref().as_encoded_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' | '\\' => write!(f, "\\{c}")?,
                    _ => write_printable(f, c)?,
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

/// Sentences on one line, each line of them trimmed and behind the one before. Blanks inside of a line stay: they may
/// be part of a path.
pub(crate) fn join_lines(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    printable(&lines.join(" "))
}

/// The beginning of some bytes, on one line.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 120;
    let shown = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes);
    let mut text = one_line(&String::from_utf8_lossy(shown));
    if shown.len() < bytes.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{os::unix::ffi::OsStrExt, path::Path};

    use super::*;

    #[test]
    fn what_is_hidden_is_escaped_by_each_form() {
        for c in "\u{202e}\u{2066}\u{2028}\u{200b}\u{9b}\u{1b}\t\r".chars() {
            let text = format!("a{c}b");
            let escaped = format!("a{}b", c.escape_default());
            assert_eq!(printable(&text), escaped, "{c:?}");
            assert_eq!(one_line(&text), escaped);
            assert_eq!(join_lines(&text), escaped);
            assert_eq!(Escaped(&text).to_string(), escaped);
            assert_eq!(excerpt(text.as_bytes()), escaped);
        }
    }

    #[test]
    fn what_is_seen_stays() {
        let text = r#"plugin "v2" (it's 5 % of /srv) \u{202e} – «é»"#;
        assert_eq!(printable(text), text);
        assert_eq!(one_line(text), text);
        assert_eq!(join_lines(text), text);
        assert_eq!(excerpt(text.as_bytes()), text);
        assert_eq!(Escaped("it's").to_string(), "it's");
    }

    #[test]
    fn line_ends_are_kept_joined_or_escaped() {
        let text = "\nfirst\r\n  second  \n\n";
        assert_eq!(printable(text), "\nfirst\\r\n  second  \n\n");
        assert_eq!(one_line(text), r"\nfirst\r\n  second  \n\n");
        assert_eq!(join_lines(text), "first second");
        assert_eq!(Escaped("a\nb").to_string(), r"a\nb");
    }

    #[test]
    fn a_name_is_not_taken_for_another() {
        let path = OsStr::from_bytes(b"a\\n\xff\"\n\xe2\x80\xae");
        assert_eq!(
            Escaped(Path::new(path)).to_string(),
            r#"a\\n\xff\"\n\u{202e}"#
        );
    }

    #[test]
    fn an_excerpt_is_short_and_cut_between_characters() {
        assert_eq!(excerpt(&[b'x'; 120]), "x".repeat(120));
        assert_eq!(excerpt(&[b'x'; 121]), format!("{}…", "x".repeat(120)));
        let long = excerpt("é".repeat(100).as_bytes());
        assert_eq!(long, format!("{}…", "é".repeat(60)));
    }
}
