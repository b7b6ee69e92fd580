//! What a signature says beside that some bytes are signed: a serial number, and until when it counts.
//!
//! Both are words of the trusted comment, beside whatever else that says. What looks like one of them and is not
//! understood is never passed over, because its author counts on it.

use std::time::SystemTime;

use humantime::parse_rfc3339;

use crate::escape::printable;

/// What a signature says beside that the bytes are signed. It is in the trusted comment, which is signed, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// `serial=42`: a later plugin has a higher one.
    pub(crate) serial: Option<u64>,
    /// `expires=2027-01-31T00:00:00Z`: from when on it is not accepted any more.
    pub(crate) expires: Option<SystemTime>,
}

impl Claims {
    /// Reads a comment that was found to be signed.
    pub(super) fn read(comment: &str) -> Result<Self, String> {
        let mut claims = Self::default();
        for word in said_by_author(comment) {
            let shown = printable(word);
            let not_understood =
                || format!("its trusted comment has `{shown}`, which is not understood");
            let is_new = match word.split_once('=') {
                Some(("serial", number)) => {
                    let serial = serial(number).ok_or_else(not_understood)?;
                    claims.serial.replace(serial).is_none()
                }
                Some(("expires", time)) => {
                    let expires = parse_rfc3339(time).map_err(|_| not_understood())?;
                    claims.expires.replace(expires).is_none()
                }
                // With what cannot be seen in it, it may look like anything.
                _ if is_meant_as_claim(word) || shown != word => return Err(not_understood()),
                _ => true,
            };
            if !is_new {
                return Err(format!("its trusted comment has a second `{word}`"));
            }
        }
        Ok(claims)
    }

    /// Since when it counts no longer at this time, if so.
    pub(crate) fn expired(self, now: SystemTime) -> Option<SystemTime> {
        self.expires.filter(|expires| *expires <= now)
    }
}

/// The words of a comment, without the name of a file in one that minisign has written by itself: a name may have
/// blanks in it, and anything else. Such a comment has the fields `timestamp:…`, `file:…` and `hashed` (or `prehashed`,
/// as `rsign2` has it) first, with tabs in between. In all others every word counts.
fn said_by_author(comment: &str) -> impl Iterator<Item = &str> {
    let fields: Vec<&str> = comment.split('\t').collect();
    let is_own = matches!(
        &*fields,
        [time, file, "hashed" | "prehashed", ..] if is_timestamp(time) && file.starts_with("file:")
    );
    let fields = fields.into_iter().enumerate();
    let said = fields.filter(move |(index, _)| !(is_own && *index == 1));
    said.flat_map(|(_, field)| field.split_whitespace())
}

fn is_timestamp(field: &str) -> bool {
    let time = field.strip_prefix("timestamp:");
    time.is_some_and(|time| !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Digits and nothing else.
pub(crate) fn serial(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// `Serial=42`, `"serial=42"`, `expires`, `release=7,expires=…`: whatever has one of the names in it, or one that its
/// author may have taken for it.
fn is_meant_as_claim(word: &str) -> bool {
    const NAMES: [&str; 8] = [
        "serial",
        "serialno",
        "serialnumber",
        "expire",
        "expires",
        "expiresat",
        "expired",
        "expiry",
    ];
    let mut names = word.split(|c: char| !c.is_alphabetic());
    names.any(|name| NAMES.iter().any(|it| name.eq_ignore_ascii_case(it)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_digits() {
        assert_eq!(serial("0"), Some(0));
        assert_eq!(serial("007"), Some(7));
        assert_eq!(serial("18446744073709551615"), Some(u64::MAX));
        for text in [
            "",
            "+1",
            "-1",
            " 1",
            "1 ",
            "0x1",
            "1_0",
            "1.0",
            "18446744073709551616",
            "१",
        ] {
            assert_eq!(serial(text), None, "{text:?}");
        }
    }

    #[test]
    fn claims_stand_beside_what_else_a_comment_says() {
        const LAST_DAY: &str = "2027-01-31T00:00:00Z";
        let both = |serial, expires: Option<&str>| Claims {
            serial,
            expires: expires.map(|it| parse_rfc3339(it).unwrap()),
        };
        for (comment, expected) in [
            ("", both(None, None)),
            ("timestamp:1555779966\tfile:test\thashed", both(None, None)),
            (
                "timestamp:1555779966\tfile:test\thashed\tserial=42",
                both(Some(42), None),
            ),
            (
                "serial=42 timestamp:1555779966\tfile:test\thashed",
                both(Some(42), None),
            ),
            (
                "serial=42 expires=2027-01-31T00:00:00Z",
                both(Some(42), Some(LAST_DAY)),
            ),
            (
                "release 7 of acme  expires=2027-01-31T00:00:00Z",
                both(None, Some(LAST_DAY)),
            ),
            ("serial=18446744073709551615", both(Some(u64::MAX), None)),
            // The name of a file says nothing.
            (
                "timestamp:1\tfile:my serial=99 expires=never.so\thashed",
                both(None, None),
            ),
            (
                "timestamp:1\tfile:serial=99\thashed\tserial=7",
                both(Some(7), None),
            ),
            (
                "timestamp:1\tfile:my serial=9\tprehashed\tserial=7",
                both(Some(7), None),
            ),
            ("aserial=1 serials=2 deserialisation=3", both(None, None)),
            // Nor is it the name of a file where minisign does not write one.
            (
                "file:v42.so expires=2027-01-31T00:00:00Z",
                both(None, Some(LAST_DAY)),
            ),
            (
                "release 7\tfile:v42.so serial=42\thashed",
                both(Some(42), None),
            ),
            (
                "serial=42\tfile:v42.so expires=2027-01-31T00:00:00Z\thashed",
                both(Some(42), Some(LAST_DAY)),
            ),
            (
                "timestamp:1\tserial=42\tfile:v42.so expires=2027-01-31T00:00:00Z",
                both(Some(42), Some(LAST_DAY)),
            ),
            (
                "timestamp:1\tfile:v42.so expires=2027-01-31T00:00:00Z",
                both(None, Some(LAST_DAY)),
            ),
            (
                "timestamp:1\tfile:v42.so expires=2027-01-31T00:00:00Z\tserial=42",
                both(Some(42), Some(LAST_DAY)),
            ),
            (
                "timestamp:1\tfile:a\thashed\tfile:v42.so serial=42",
                both(Some(42), None),
            ),
        ] {
            assert_eq!(Claims::read(comment), Ok(expected), "{comment:?}");
        }
    }

    #[test]
    fn what_is_meant_as_a_claim_is_never_passed_over() {
        for word in [
            "serial=",
            "serial=-1",
            "serial=+1",
            "serial=4e2",
            "serial=18446744073709551616",
            "serial=42,",
            "serial:42",
            "serial",
            "Serial=42",
            "expires=",
            "expires=never",
            "expires=2027-01-31",
            "expires=2027-01-31T00:00:00",
            "expires=2027-01-31T00:00:00+01:00",
            "expires=2027-02-31T00:00:00Z",
            "expires=1800000000",
            "EXPIRES=2027-01-31T00:00:00Z",
            "expires:2027-01-31T00:00:00Z",
            "expiry=2027-01-31T00:00:00Z",
            "expire=2027-01-31T00:00:00Z",
            "expiresAt=2027-01-31T00:00:00Z",
            "serialno=42",
            "\"expires=2027-01-31T00:00:00Z\"",
            "'serial=42'",
            "(serial=42)",
            "--serial=42",
            "not-serial=3",
            "my:serial=4",
            "release=7,expires=2027-01-31T00:00:00Z",
            "v42;serial=42",
        ] {
            assert_eq!(
                Claims::read(&format!("timestamp:1 {word}\tfile:a")),
                Err(format!(
                    "its trusted comment has `{word}`, which is not understood"
                )),
            );
        }
        for word in [
            "\u{feff}expires=2027-01-31T00:00:00Z",
            "se\u{ad}rial=42",
            "\0serial=42",
            "\u{200b}serial=42",
        ] {
            let text = Claims::read(word).unwrap_err();
            assert!(text.ends_with("which is not understood"), "{text}");
            assert!(text.is_ascii(), "{text}");
        }
        // A time without digits is none of minisign's.
        assert!(Claims::read("timestamp:\tfile: expires=never\thashed").is_err());
        assert_eq!(
            Claims::read("timestamp:1 file:b\tfile:v42.so expires=never\thashed"),
            Err("its trusted comment has `expires=never`, which is not understood".to_owned()),
        );
        for (twice, word) in [
            ("serial=1 serial=2", "serial=2"),
            ("serial=1\tserial=1", "serial=1"),
            (
                "expires=2027-01-31T00:00:00Z expires=2028-01-31T00:00:00Z",
                "expires=2028-01-31T00:00:00Z",
            ),
        ] {
            assert_eq!(
                Claims::read(twice),
                Err(format!("its trusted comment has a second `{word}`"))
            );
        }
    }

    #[test]
    fn a_signature_expires_at_the_moment_that_it_names() {
        let claims = Claims::read("expires=2027-01-31T00:00:00Z").unwrap();
        let at = |time| claims.expired(parse_rfc3339(time).unwrap());
        assert_eq!(at("2027-01-30T23:59:59Z"), None);
        for time in ["2027-01-31T00:00:00Z", "2100-01-01T00:00:00Z"] {
            assert_eq!(at(time), claims.expires);
        }
        let unlimited = Claims::default();
        assert_eq!(unlimited.expired(SystemTime::now()), None);
    }
}
