//! [`Share`]: how many of the calls a canary gets, and which.

use std::{
    fmt::{self, Display},
    str::FromStr,
};

use serde::{Serialize, Serializer};

use crate::parse::ParseError;

/// A share of the calls, from 0 % to 100 %, in steps of 0.0001 %.
///
/// Its [`Display`] is the percentage: `0.5%`. It is read from the same form. The sign may be left out, except below 1:
/// `0.5` could be meant as a ratio. For programs it is a ratio from 0 to 1.
///
/// # Examples
///
/// ```
/// use hotswap_core::canary::Share;
///
/// let share: Share = "12.5%".parse()?;
/// assert!(share > Share::percent(10));
/// assert_eq!(share.ratio(), 0.125);
/// assert_eq!(share.to_string(), "12.5%");
/// # Ok::<(), hotswap_core::reasons::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share {
    millionths: u32,
}

const MILLION: u32 = 1_000_000;
const MILLIONTHS_PER_PERCENT: u32 = MILLION / 100;

impl Share {
    /// No calls.
    pub const NONE: Self = Self { millionths: 0 };
    /// All calls.
    pub const ALL: Self = Self {
        millionths: MILLION,
    };

    /// A share of whole percents.
    ///
    /// # Panics
    ///
    /// If it is more than 100.
    pub const fn percent(percent: u32) -> Self {
        assert!(percent <= 100, "a share is at most 100 %");
        Self {
            millionths: percent * MILLIONTHS_PER_PERCENT,
        }
    }

    /// The ratio, from 0 to 1.
    pub fn ratio(self) -> f64 {
        f64::from(self.millionths) / f64::from(MILLION)
    }

    pub(crate) fn millionths(self) -> u32 {
        self.millionths
    }

    /// `millionths` is from [`millionths`](Self::millionths).
    pub(crate) fn of_millionths(millionths: u32) -> Self {
        Self { millionths }
    }

    /// Whether this share has the calls of a key with this hash. A key that a share has is also in every larger one.
    pub(crate) fn has(self, hash: u64) -> bool {
        // The high half of the product: where the hash lies among all of them, in millionths.
        let place = (u128::from(hash) * u128::from(MILLION)) >> u64::BITS;
        place < u128::from(self.millionths)
    }
}

impl FromStr for Share {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let signed = text.strip_suffix('%');
        let number = signed.unwrap_or(text).trim_end();
        let percent: f64 = number
            .parse()
            .map_err(|_| ParseError("not a percentage, such as 10%"))?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(ParseError("not between 0% and 100%"));
        }
        if signed.is_none() && percent > 0.0 && percent < 1.0 {
            return Err(ParseError(
                "less than 1 without a sign; write 50% for a half, or 0.5%",
            ));
        }
        let millionths = (percent * f64::from(MILLIONTHS_PER_PERCENT)).round();
        Ok(Self {
            // From 0 to a million, and whole.
            millionths: millionths as u32,
        })
    }
}

impl Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = f64::from(self.millionths) / f64::from(MILLIONTHS_PER_PERCENT);
        write!(f, "{percent}%")
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.ratio())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_has_nothing_and_all_has_everything() {
        for hash in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            assert!(!Share::NONE.has(hash), "{hash}");
            assert!(Share::ALL.has(hash), "{hash}");
        }
    }

    #[test]
    fn the_smallest_share_has_a_millionth() {
        let smallest: Share = "0.0001%".parse().unwrap();
        let millionth = u64::MAX / u64::from(MILLION);
        assert!(smallest.has(0));
        assert!(smallest.has(millionth - 1));
        assert!(!smallest.has(millionth + 1));
    }

    #[test]
    fn it_is_read_and_shown_as_a_percentage() {
        for (text, shown) in [
            ("10%", "10%"),
            ("10", "10%"),
            ("0.5 %", "0.5%"),
            ("0%", "0%"),
            ("0", "0%"),
            ("1", "1%"),
            ("100%", "100%"),
            ("33.33333%", "33.3333%"),
        ] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), shown);
        }
        for text in [
            "", "%", "ten", "-1%", "100.1%", "NaN", "inf", "10%%", "0.5", "1e-3",
        ] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
