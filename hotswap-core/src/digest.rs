//! The SHA-256 of a file's content: the name that its bytes have whatever it is called.

use std::{
    fmt::{self, Debug, Display},
    io::{self, Read},
    str::FromStr,
};

use serde::{Serialize, Serializer};
use sha2::Digest;

use crate::parse::ParseError;

/// A SHA-256, written and read as 64 hexadecimal digits.
///
/// ```
/// use hotswap_core::Sha256;
///
/// let empty: Sha256 = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855".parse()?;
/// assert_eq!(empty, Sha256::of(b""));
/// assert!(empty.to_string().starts_with("e3b0c442"));
/// # Ok::<(), hotswap_core::reasons::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The SHA-256 of these bytes. Costs some 0.6 ms a MiB where the processor has instructions for it, and
    /// several times that where it has not.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The SHA-256 of all that a reader gives, of which little is kept at a time.
    pub(crate) fn of_all(mut reader: impl Read) -> io::Result<Self> {
        let mut digest = sha2::Sha256::new();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(Self(digest.finalize().into())),
                Ok(length) => digest.update(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Takes 64 hexadecimal digits, large or small.
impl FromStr for Sha256 {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let problem = ParseError("a SHA-256 is 64 hexadecimal digits");
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(problem);
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            let pair = &text[2 * index..2 * index + 2];
            *byte = u8::from_str_radix(pair, 16).map_err(|_| problem.clone())?;
        }
        Ok(Self(bytes))
    }
}

/// 64 small hexadecimal digits.
impl Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of "abc", from FIPS 180-4.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn it_is_the_standard_s() {
        assert_eq!(Sha256::of(b"abc").to_string(), ABC);
        assert_eq!(
            format!("{:?}", Sha256::of(b"abc")),
            format!("Sha256({ABC})")
        );
    }

    #[test]
    fn what_is_read_in_parts_is_one_text() {
        let bytes: Vec<u8> = (0..200_000u32).map(|it| it as u8).collect();
        assert_eq!(Sha256::of_all(&bytes[..]).unwrap(), Sha256::of(&bytes));
        assert_eq!(Sha256::of_all(io::empty()).unwrap(), Sha256::of(b""));
    }

    #[test]
    fn digits_of_any_case_are_read() {
        assert_eq!(ABC.parse(), Ok(Sha256::of(b"abc")));
        assert_eq!(ABC.to_uppercase().parse(), Ok(Sha256::of(b"abc")));
    }

    #[test]
    fn anything_else_is_an_error() {
        let signed = format!("+{}", &ABC[1..]);
        let wide = format!("{}ü", &ABC[2..]);
        for text in [
            "",
            &ABC[1..],
            &format!("{ABC}0"),
            &format!(" {}", &ABC[1..]),
            &signed,
            &wide,
        ] {
            let error = text.parse::<Sha256>().unwrap_err();
            assert_eq!(
                error.to_string(),
                "a SHA-256 is 64 hexadecimal digits",
                "{text}"
            );
        }
    }
}
