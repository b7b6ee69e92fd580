//! The values of a plugin's fields, as the host's `tracing` takes them.

use std::{error::Error, fmt};

use hotswap_sdk::host::{LogValue, LogValues};
use tracing_core::field::{self, DisplayValue, Value, ValueSet};

use super::{
    Logs,
    callsites::{FIELDS_MAX, PluginCallsite},
};

/// Most callsites have no more fields than this, with those that are added.
const FEW: usize = 8;

/// A value of a field.
enum Decoded<'a> {
    U64(u64),
    I64(i64),
    U128(u128),
    I128(i128),
    F64(f64),
    Bool(bool),
    Str(&'a str),
    Bytes(&'a [u8]),
    Debug(DisplayValue<&'a str>),
    Error(Box<dyn Error + 'static>),
}

/// An error of a plugin: its text, and its source.
#[derive(Debug)]
struct PluginError {
    text: String,
    source: Option<Box<PluginError>>,
}

/// Calls `f` with the values of a callsite's fields.
pub(super) fn with<R>(
    logs: &Logs,
    site: &PluginCallsite,
    values: LogValues<'_>,
    f: impl FnOnce(&ValueSet<'_>) -> R,
) -> R {
    let plugin = field::display(&*logs.plugin);
    let generation = logs.generation();
    let added = [
        Some(&plugin as &dyn Value),
        generation.as_ref().map(|it| it as _),
    ];
    match site.metadata().fields().len() <= FEW {
        true => with_up_to::<FEW, _>(site, values, added, f),
        false => with_up_to::<{ FIELDS_MAX + 2 }, _>(site, values, added, f),
    }
}

/// Calls `f` with values that a span has got, of the fields of its callsite.
pub(super) fn with_recorded<R>(
    site: &PluginCallsite,
    values: LogValues<'_>,
    f: impl FnOnce(&ValueSet<'_>) -> R,
) -> R {
    with_up_to::<{ FIELDS_MAX + 2 }, _>(site, values, [None; 2], f)
}

/// Calls `f` with these values, and with those of the two fields that are added. `N` is at least the number of the
/// callsite's fields.
fn with_up_to<const N: usize, R>(
    site: &PluginCallsite,
    values: LogValues<'_>,
    added: [Option<&dyn Value>; 2],
    f: impl FnOnce(&ValueSet<'_>) -> R,
) -> R {
    let decoded = decode::<N>(values);
    let own = decoded[..site.own_fields()].iter();
    let own = own.map(|it| it.as_ref().map(Decoded::value));
    let mut all = [None; N];
    for (place, value) in all.iter_mut().zip(own.chain(added)) {
        *place = value;
    }
    let fields = site.metadata().fields();
    f(&fields.value_set_all(&all[..fields.len()]))
}

fn decode<const N: usize>(values: LogValues<'_>) -> [Option<Decoded<'_>>; N] {
    let mut decoded = [const { None }; N];
    let mut rest = values;
    while let Some((field, value)) = rest.next() {
        let value = match value {
            LogValue::U64(value) => Decoded::U64(value),
            LogValue::I64(value) => Decoded::I64(value),
            LogValue::U128(value) => Decoded::U128(value),
            LogValue::I128(value) => Decoded::I128(value),
            LogValue::F64(value) => Decoded::F64(value),
            LogValue::Bool(value) => Decoded::Bool(value),
            LogValue::Str(value) => Decoded::Str(value),
            LogValue::Bytes(value) => Decoded::Bytes(value),
            LogValue::Debug(value) => Decoded::Debug(field::display(value)),
            LogValue::Error(text) => Decoded::Error(error(text, rest)),
            LogValue::Source(_) => continue,
        };
        if let Some(place) = decoded.get_mut(field) {
            *place = Some(value);
        }
    }
    decoded
}

/// An error with this text, and with the sources that come next.
fn error(text: &str, rest: LogValues<'_>) -> Box<dyn Error + 'static> {
    let sources = rest.map_while(|(_, value)| match value {
        LogValue::Source(text) => Some(text),
        _ => None,
    });
    let texts: Vec<_> = [text].into_iter().chain(sources).collect();
    let mut error = None;
    for text in texts.into_iter().rev() {
        error = Some(Box::new(PluginError {
            text: text.to_owned(),
            source: error,
        }));
    }
    error.expect("there is at least one text")
}

impl Decoded<'_> {
    fn value(&self) -> &dyn Value {
        match self {
            Self::U64(value) => value,
            Self::I64(value) => value,
            Self::U128(value) => value,
            Self::I128(value) => value,
            Self::F64(value) => value,
            Self::Bool(value) => value,
            Self::Str(value) => value,
            Self::Bytes(value) => value,
            Self::Debug(value) => value,
            Self::Error(value) => value,
        }
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for PluginError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|it| it as _)
    }
}
