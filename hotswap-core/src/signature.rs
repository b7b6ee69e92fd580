//! Detached signatures, as [minisign](https://jedisct1.github.io/minisign/) makes them.
//!
//! Here is what a signature says of some bytes. It does not know where signatures lie, or whether one is
//! asked for.

mod claims;

use std::{
    fmt::{self, Debug, Display},
    str::FromStr,
};

use minisign_verify::{Error, Signature};

pub(crate) use self::claims::{Claims, serial};
use crate::{error::SignatureProblem, parse::ParseError};

/// A public key of minisign's.
///
/// Read from the line of base64 that `minisign -G` shows, or from the whole text of a `.pub` file:
///
/// ```
/// use hotswap_core::PublicKey;
///
/// let line = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
/// let file = format!("untrusted comment: minisign public key E7620F1842B4E81F\n{line}\n");
/// assert_eq!(line.parse::<PublicKey>()?, file.parse()?);
/// # Ok::<(), hotswap_core::reasons::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    base64: String,
    key: minisign_verify::PublicKey,
}

impl PublicKey {
    /// What the text of a signature file says, if it is one by this key over these bytes; if not, why.
    ///
    /// Not the kind that minisign made by default before 0.9 (2020) and that is over the bytes themselves:
    /// all of today's are over their hash.
    pub(crate) fn verify(
        &self,
        bytes: &[u8],
        signature: &[u8],
    ) -> Result<Claims, SignatureProblem> {
        let text = str::from_utf8(signature).ok();
        let parsed = text.and_then(|text| Some((text, Signature::decode(text).ok()?)));
        let malformed = |problem: &str| SignatureProblem::Malformed {
            problem: problem.to_owned(),
        };
        let (text, signature) = parsed.ok_or_else(|| malformed("not a minisign signature"))?;
        match self.key.verify(bytes, &signature, false) {
            Ok(()) => Claims::read(signature.trusted_comment())
                .map_err(|problem| SignatureProblem::Malformed { problem }),
            Err(Error::UnexpectedKeyId) => Err(SignatureProblem::OtherKey {
                expected: KeyId(&self.base64).to_string(),
                found: KeyId(text.lines().nth(1).unwrap_or_default()).to_string(),
            }),
            Err(Error::UnexpectedAlgorithm) => Err(malformed(
                "of minisign's old kind; sign again with `minisign -S -H`",
            )),
            Err(_) => Err(SignatureProblem::Mismatch),
        }
    }
}

impl FromStr for PublicKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let lines: Vec<&str> = text.trim().lines().map(str::trim).collect();
        let ([base64] | [_, base64]) = lines[..] else {
            return Err(NO_KEY);
        };
        let key = minisign_verify::PublicKey::from_base64(base64).map_err(|_| NO_KEY)?;
        let base64 = base64.to_owned();
        Ok(Self { base64, key })
    }
}

const NO_KEY: ParseError =
    ParseError("a minisign public key is a line of base64, or the text of a .pub file");

/// The line of base64.
impl Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base64)
    }
}

impl Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// The number of the key in a line of base64, as minisign shows it. `minisign-verify` keeps it to itself.
struct KeyId<'a>(&'a str);

impl Display for KeyId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        // Two bytes for the algorithm, the eight of the number, smallest first, and two more.
        let bytes = self.0.bytes().take(16).fold(0_u128, |bits, character| {
            let digit = DIGITS.iter().position(|digit| *digit == character);
            bits << 6 | digit.unwrap_or_default() as u128
        });
        write!(f, "{:016X}", ((bytes >> 16) as u64).swap_bytes())
    }
}

#[cfg(test)]
mod tests {
    use minisign::KeyPair;

    use super::*;

    /// minisign's own, with its number.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const NUMBER: &str = "E7620F1842B4E81F";

    fn sign(pair: &KeyPair, bytes: &[u8]) -> String {
        let signature = minisign::sign(Some(&pair.pk), &pair.sk, bytes, None, None);
        signature.unwrap().into_string()
    }

    /// Problems as text.
    fn verify(key: &PublicKey, bytes: &[u8], signature: &[u8]) -> Result<Claims, String> {
        let claims = key.verify(bytes, signature);
        claims.map_err(|problem| problem.to_string())
    }

    fn pair() -> (KeyPair, PublicKey) {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let key = pair.pk.to_base64().parse().unwrap();
        (pair, key)
    }

    #[test]
    fn a_key_is_read_from_a_line_or_a_file() {
        let key: PublicKey = KEY.parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        assert_eq!(format!("{key:?}"), format!("PublicKey({KEY})"));
        for text in [
            format!("{KEY}\n"),
            format!(" {KEY}\r\n"),
            format!("untrusted comment: minisign public key {NUMBER}\r\n{KEY}\r\n"),
        ] {
            assert_eq!(text.parse(), Ok(key.clone()), "{text}");
        }
        let (pair, key) = pair();
        assert_eq!(pair.pk.to_box().unwrap().into_string().parse(), Ok(key));
    }

    #[test]
    fn anything_else_is_an_error() {
        let three = format!("a\nb\n{KEY}");
        for text in [
            "",
            "\n",
            "RWQf",
            &KEY[1..],
            &three,
            &KEY.replace("RW", "XX"),
        ] {
            let error = text.parse::<PublicKey>().unwrap_err();
            assert_eq!(
                error.to_string(),
                "a minisign public key is a line of base64, or the text of a .pub file",
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_are_shown_as_minisign_does() {
        assert_eq!(KeyId(KEY).to_string(), NUMBER);
        assert_eq!(KeyId("").to_string(), "0000000000000000");
    }

    #[test]
    fn a_signature_is_over_these_bytes_by_this_key() {
        let ((pair, key), (other, another)) = (pair(), pair());
        let signature = sign(&pair, b"plugin");
        assert_eq!(
            verify(&key, b"plugin", signature.as_bytes()),
            Ok(Claims::default())
        );
        assert_eq!(
            verify(&key, b"Plugin", signature.as_bytes()),
            Err("it does not match the file".to_owned())
        );
        assert_eq!(
            verify(&key, b"plugin", sign(&other, b"plugin").as_bytes()),
            Err(format!(
                "made with another key: expected {}, found {}",
                KeyId(&key.base64),
                KeyId(&another.base64)
            ))
        );
        // The comment is signed too.
        let comment = signature.replace("trusted comment: ", "trusted comment: not ");
        assert_eq!(
            verify(&key, b"plugin", comment.as_bytes()),
            Err("it does not match the file".to_owned())
        );
    }

    #[test]
    fn claims_are_part_of_what_is_signed() {
        let (pair, key) = pair();
        let comment = Some("serial=42");
        let signature = minisign::sign(Some(&pair.pk), &pair.sk, &b"plugin"[..], comment, None);
        let signature = signature.unwrap().into_string();
        let claims = verify(&key, b"plugin", signature.as_bytes()).unwrap();
        assert_eq!(claims.serial, Some(42));
        for comment in ["serial=43", "serial=042", "serial=42 ", ""] {
            let forged = signature.replace("serial=42", comment);
            assert_eq!(
                verify(&key, b"plugin", forged.as_bytes()),
                Err("it does not match the file".to_owned()),
                "{comment:?}"
            );
        }
    }

    #[test]
    fn what_is_no_signature_is_said_to_be_none() {
        let (pair, key) = pair();
        let signature = sign(&pair, b"plugin");
        let half = &signature.as_bytes()[..signature.len() / 2];
        for bytes in [b"", &b"garbage"[..], b"\xff\n\xff", b"\n\n\n\n", half] {
            assert_eq!(
                verify(&key, b"plugin", bytes),
                Err("not a minisign signature".to_owned())
            );
        }
    }

    /// From the documentation of `minisign-verify`; made with `-l`.
    #[test]
    fn the_old_kind_is_refused() {
        let key: PublicKey = KEY.parse().unwrap();
        let signature = b"untrusted comment: signature from minisign secret key\n\
            RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n\
            trusted comment: timestamp:1555779966\tfile:test\n\
            QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n";
        assert_eq!(
            verify(&key, b"test", signature),
            Err("of minisign's old kind; sign again with `minisign -S -H`".to_owned())
        );
    }
}
