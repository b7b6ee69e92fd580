//! Which characters are shown as they are, and how the others are escaped.
//!
//! [`is_shown`] is the only place that says so, for hosts and plugins alike.

use std::{
    fmt::{self, Write},
    ops::RangeInclusive,
};

/// Escapes each character that a terminal does not show as it is, except line ends.
///
/// Escaped are control characters, line and paragraph separators, blanks other than the space, characters that turn the
/// direction of the text (U+202A to U+202E, U+2066 to U+2069), other format characters, those that have no width, and
/// code points without a meaning. What hotswap itself reports is escaped. This is for a host that prints what it got
/// from a plugin.
///
/// Costs a pass over the text.
///
/// # Examples
///
/// ```
/// assert_eq!(hotswap_sdk::printable("two\nlines"), "two\nlines");
/// assert_eq!(hotswap_sdk::printable("a\u{202e}b\u{1b}[2J"), r"a\u{202e}b\u{1b}[2J");
/// ```
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push(c),
            _ => _ = write_printable(&mut shown, c),
        }
    }
    shown
}

/// As [`printable`], with line ends escaped too: for text that must not pass for more than one line of a report or a
/// log.
///
/// # Examples
///
/// ```
/// assert_eq!(hotswap_sdk::one_line("two\nlines\u{1b}[2J"), r"two\nlines\u{1b}[2J");
/// ```
pub fn one_line(text: &str) -> String {
    printable(text).replace('\n', r"\n")
}

/// Writes one character, escaped if a terminal does not show it as it is.
///
/// # Errors
///
/// Those of `out`.
pub fn write_printable(out: &mut impl Write, c: char) -> fmt::Result {
    if is_shown(c) {
        out.write_char(c)
    } else {
        write!(out, "{}", c.escape_default())
    }
}

/// Whether a terminal or a log shows the character as it is, and a reader sees it.
fn is_shown(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    is_printable(c) && !INVISIBLE.iter().any(|range| range.contains(&c))
}

/// Letters and marks that have no shape or no width: those of Unicode's `Default_Ignorable_Code_Point` that std takes
/// for printable (Unicode 17).
const INVISIBLE: [RangeInclusive<char>; 8] = [
    '\u{34f}'..='\u{34f}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{e0100}'..='\u{e01ef}',
];

/// Whether std takes the character for printable. It says so only by what `escape_debug` escapes, which behind another
/// character is not the marks (such as accents).
fn is_printable(c: char) -> bool {
    let mut text = [b'x'; 5];
    let length = c.encode_utf8(&mut text[1..]).len();
    let text = str::from_utf8(&text[..=length]).expect("two characters");
    text.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each kind that moves, hides or turns text: one by one, because a range is easily one short.
    const HIDDEN: &str = "\u{0}\u{7}\u{8}\t\r\u{b}\u{c}\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{9f}\u{a0}\u{ad}\u{34f}\u{600}\
        \u{61c}\u{6dd}\u{70f}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{180b}\u{180e}\u{180f}\u{2000}\u{200a}\u{200b}\u{200c}\
        \u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{202f}\u{205f}\u{2060}\u{2061}\
        \u{2064}\u{2065}\u{2066}\u{2067}\u{2068}\u{2069}\u{206a}\u{206f}\u{3000}\u{3164}\u{fe00}\u{fe0f}\u{feff}\u{ffa0}\
        \u{fff9}\u{fffb}\u{110bd}\u{13430}\u{1bca0}\u{1d173}\u{1d17a}\u{e0001}\u{e0020}\u{e007f}\u{e0100}\u{e01ef}\
        \u{e000}\u{f8ff}\u{f0000}\u{10ffff}\u{fdd0}\u{378}";

    /// Text of several scripts, with accents of their own, and what reads like an escape.
    const SHOWN: &str = r#"plugin "v2" (it's 5 % of /srv) \u{202e} – «é» e\u0301 ñ Ж 漢字 ไทย हिन्दी עברית العربية → 🙂 �"#;

    #[test]
    fn what_is_hidden_is_escaped() {
        for c in HIDDEN.chars() {
            let escaped = format!("a{}b", c.escape_default());
            assert_eq!(printable(&format!("a{c}b")), escaped, "{c:?}");
            assert_eq!(one_line(&format!("a{c}b")), escaped, "{c:?}");
        }
    }

    #[test]
    fn what_is_seen_stays() {
        for text in [SHOWN, "e\u{301} a\u{308}", "", "a\nb\n"] {
            assert_eq!(printable(text), text);
            assert_eq!(one_line(text), text.replace('\n', r"\n"));
        }
    }
}
