//! The values of fields, collected for the host.

use std::fmt::{self, Write};

use super::table::{RawValue, ValueKind};

/// The host passes on so many fields of a callsite.
#[cfg(feature = "tracing")]
const FIELDS_EXPECTED: usize = 4;

/// More sources of an error than this are left out. An error may be its own source.
#[cfg(feature = "tracing")]
const SOURCES_MAX: usize = 16;

/// Room for what most lines say.
const TEXT_EXPECTED: usize = 120;

/// Values, and the texts that they are made of.
///
/// # Invariants
///
/// A value with a text has the place of that in `texts` in its first bits, and its length.
#[derive(Debug)]
pub(super) struct Values {
    values: Vec<RawValue>,
    texts: Vec<u8>,
}

impl Values {
    /// One text, as the value of the first field.
    pub(super) fn text(text: fmt::Arguments<'_>) -> Self {
        let mut values = Self {
            values: Vec::with_capacity(1),
            texts: Vec::with_capacity(TEXT_EXPECTED),
        };
        values.add_text(0, ValueKind::Debug, |texts| _ = texts.write_fmt(text));
        values
    }

    /// The values, for the host. Their texts are borrowed from this.
    pub(super) fn raw(&mut self) -> &[RawValue] {
        for value in &mut self.values {
            if value.kind.has_bytes() {
                value.start = self.texts[value.bits[0] as usize..].as_ptr();
            }
        }
        &self.values
    }

    fn add_text(&mut self, field: usize, kind: ValueKind, write: impl FnOnce(&mut Bytes<'_>)) {
        let place = self.texts.len();
        write(&mut Bytes(&mut self.texts));
        self.values.push(RawValue {
            length: self.texts.len() - place,
            ..number(field, kind, place as u128)
        });
    }
}

fn number(field: usize, kind: ValueKind, bits: u128) -> RawValue {
    RawValue {
        // The compiler has more trouble with so many fields than this has.
        field: u32::try_from(field).unwrap_or(u32::MAX),
        kind,
        bits: [bits as u64, (bits >> u64::BITS) as u64],
        ..RawValue::EMPTY
    }
}

impl ValueKind {
    fn has_bytes(self) -> bool {
        use ValueKind::{Bytes, Debug, Error, Source, Str};
        matches!(self, Str | Bytes | Debug | Error | Source)
    }
}

/// Appends what is written. (It cannot fail, as a `String` cannot.)
struct Bytes<'a>(&'a mut Vec<u8>);

impl Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(feature = "tracing")]
mod visit {
    use std::{
        error::Error,
        fmt::{self, Write},
        iter,
    };

    use tracing_core::field::{Field, Visit};

    use super::{FIELDS_EXPECTED, SOURCES_MAX, TEXT_EXPECTED, ValueKind, Values, number};

    impl Values {
        /// What `record` records.
        pub(in super::super) fn recorded(record: impl FnOnce(&mut dyn Visit)) -> Self {
            let mut values = Self {
                values: Vec::with_capacity(FIELDS_EXPECTED),
                texts: Vec::with_capacity(TEXT_EXPECTED),
            };
            record(&mut values);
            values
        }

        fn add(&mut self, field: &Field, kind: ValueKind, bits: u128) {
            self.values.push(number(field.index(), kind, bits));
        }
    }

    impl Visit for Values {
        fn record_f64(&mut self, field: &Field, value: f64) {
            self.add(field, ValueKind::F64, value.to_bits().into());
        }

        fn record_i64(&mut self, field: &Field, value: i64) {
            self.add(field, ValueKind::I64, value.cast_unsigned().into());
        }

        fn record_u64(&mut self, field: &Field, value: u64) {
            self.add(field, ValueKind::U64, value.into());
        }

        fn record_i128(&mut self, field: &Field, value: i128) {
            self.add(field, ValueKind::I128, value.cast_unsigned());
        }

        fn record_u128(&mut self, field: &Field, value: u128) {
            self.add(field, ValueKind::U128, value);
        }

        fn record_bool(&mut self, field: &Field, value: bool) {
            self.add(field, ValueKind::Bool, value.into());
        }

        fn record_str(&mut self, field: &Field, value: &str) {
            let write = |texts: &mut super::Bytes<'_>| _ = texts.write_str(value);
            self.add_text(field.index(), ValueKind::Str, write);
        }

        fn record_bytes(&mut self, field: &Field, value: &[u8]) {
            let write = |texts: &mut super::Bytes<'_>| texts.0.extend_from_slice(value);
            self.add_text(field.index(), ValueKind::Bytes, write);
        }

        fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
            let all = iter::successors(Some(value), |&error| error.source());
            for (number, error) in all.take(1 + SOURCES_MAX).enumerate() {
                let kind = match number {
                    0 => ValueKind::Error,
                    _ => ValueKind::Source,
                };
                self.add_text(field.index(), kind, |texts| _ = write!(texts, "{error}"));
            }
        }

        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.add_text(field.index(), ValueKind::Debug, |texts| {
                _ = write!(texts, "{value:?}");
            });
        }
    }

    /// What is said of a callsite whose fields the host does not know: the message, and then the other fields by name.
    #[derive(Default)]
    pub(in super::super) struct Sentence {
        message: String,
        others: String,
    }

    impl Visit for Sentence {
        fn record_str(&mut self, field: &Field, value: &str) {
            match field.name() {
                "message" => self.message.push_str(value),
                _ => self.record_debug(field, &value),
            }
        }

        fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
            self.record_debug(field, &format_args!("{value}"));
        }

        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            _ = match field.name() {
                "message" => write!(self.message, "{value:?}"),
                name => write!(self.others, " {name}={value:?}"),
            };
        }
    }

    impl fmt::Display for Sentence {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let text = [&*self.message, &*self.others].concat();
            f.write_str(text.trim_start())
        }
    }
}

#[cfg(feature = "tracing")]
pub(super) use visit::Sentence;
