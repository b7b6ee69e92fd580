//! How reports show what they are made of, as text and for programs: what the macro [`report`] refers to.
//!
//! Paths are text for programs too, escaped as in text for people. In all other text what a terminal does not show is
//! escaped, except line ends. Durations are whole microseconds, points in time milliseconds since 1970-01-01 UTC.
//! Nothing is read back: these are reports.

use std::{
    fmt::{self, Debug, Display},
    path::Path,
    time::{Duration, SystemTime},
};

pub(crate) use hotswap_derive::report;
use serde::Serializer;

use crate::escape::{Escaped, one_line, printable};

/// Text from outside. [`Display`] leaves quotes and backslashes as they are; [`Debug`] is in quotes, and there no two
/// texts look the same.
pub(crate) struct Text<'a>(pub(crate) &'a String);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(self.0))
    }
}

impl Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Escaped(self.0))
    }
}

/// All of a list, separated by commas.
pub(crate) struct List<'a, T>(pub(crate) &'a Vec<T>);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{item}")?;
        }
        Ok(())
    }
}

/// So many of something, by its name in the singular.
pub(crate) struct Count<'a>(pub(crate) usize, pub(crate) &'a str);

impl Display for Count<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, what) = self;
        let plural = if *count == 1 { "" } else { "s" };
        write!(f, "{count} {what}{plural}")
    }
}

/// How many plugins, as the beginning of a sentence that goes on with what they are.
pub(crate) struct RetiredPlugins(pub(crate) usize);

impl Display for RetiredPlugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 retired plugin is"),
            count => write!(f, "{count} retired plugins are"),
        }
    }
}

/// A size, to be read by people.
pub(crate) struct Bytes(pub(crate) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1_000 => write!(f, "{} bytes", self.0),
            1_000..1_000_000 => write!(f, "{:.1} kB", bytes / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1} MB", bytes / 1e6),
            _ => write!(f, "{:.1} GB", bytes / 1e9),
        }
    }
}

pub(crate) fn in_microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A time before 1970 is 1970.
fn in_milliseconds(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Escaped(path))
}

pub(crate) fn text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&printable(text))
}

pub(crate) fn display<S: Serializer>(
    value: &impl Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(crate) fn microseconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(in_microseconds(*duration))
}

pub(crate) fn milliseconds<S: Serializer>(
    time: &SystemTime,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(in_milliseconds(*time))
}

/// The same for what need not be there.
pub(crate) mod optional {
    use std::{
        path::PathBuf,
        time::{Duration, SystemTime},
    };

    use serde::{Serialize, Serializer};

    use super::{in_microseconds, in_milliseconds};
    use crate::escape::{Escaped, printable};

    pub(crate) fn path<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let path = path.as_ref().map(|path| Escaped(path).to_string());
        path.serialize(serializer)
    }

    pub(crate) fn text<S: Serializer>(
        text: &Option<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        text.as_deref().map(printable).serialize(serializer)
    }

    pub(crate) fn microseconds<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(in_microseconds).serialize(serializer)
    }

    pub(crate) fn milliseconds<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(in_milliseconds).serialize(serializer)
    }
}
