//! The bytes of a description.

use super::description::{Description, Field, Method, Parameter, Shape, number};

/// What is said of bytes that are no description.
pub(super) const DAMAGED: &str = "its description is damaged";

/// Writes a description.
#[derive(Default)]
pub(super) struct ByteWriter(Vec<u8>);

/// The bytes that are still to be decoded.
pub(super) struct ByteReader<'a>(&'a [u8]);

impl Description {
    /// The format of an exported function's description. It changes with the bytes, and with the views of the types
    /// that both sides know by name. A plugin's has a number of its own
    /// ([`PluginDescription::FORMAT`](super::requirement::PluginDescription::FORMAT)).
    const FORMAT: u32 = 1;

    /// Encodes it, after the number of the format.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = ByteWriter::default();
        out.number(Self::FORMAT);
        out.description(self);
        out.into_bytes()
    }

    /// Decodes it.
    ///
    /// # Errors
    ///
    /// The bytes are malformed, or of a newer format, of which nothing else is read.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let mut bytes = ByteReader::new(bytes);
        bytes.format(Self::FORMAT)?;
        let read = bytes.description();
        read.filter(|_| bytes.is_empty())
            .ok_or_else(|| DAMAGED.to_owned())
    }
}

impl ByteWriter {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn description(&mut self, description: &Description) {
        self.text(&description.name);
        self.text(&description.version);
        self.number(description.root);
        self.list(&description.types, Self::shape);
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.number(flag.into());
    }

    pub(super) fn number(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(number(text.len()));
        self.0.extend(text.as_bytes());
    }

    pub(super) fn list<T>(&mut self, items: &[T], write: fn(&mut Self, &T)) {
        self.number(number(items.len()));
        items.iter().for_each(|item| write(self, item));
    }

    fn shape(&mut self, shape: &Shape) {
        match shape {
            Shape::Named(name, arguments) => {
                self.number(0);
                self.text(name);
                self.list(arguments, |it, argument| it.number(*argument));
            }
            Shape::Struct(name, fields) => {
                self.number(1);
                self.text(name);
                self.list(fields, Self::field);
            }
            Shape::Enum(name, variants) => {
                self.number(2);
                self.text(name);
                self.list(variants, |it, (name, fields)| {
                    it.text(name);
                    it.list(fields, Self::field);
                });
            }
            Shape::Interface(name, methods) => {
                self.number(3);
                self.text(name);
                self.list(methods, |it, method| {
                    it.text(&method.name);
                    it.flag(method.has_default);
                    it.list(&method.parameters, Self::parameter);
                    it.number(method.result);
                });
            }
        }
    }

    fn field(&mut self, field: &Field) {
        self.text(&field.name);
        self.number(field.ty);
        self.flag(field.has_default);
    }

    fn parameter(&mut self, parameter: &Parameter) {
        self.text(&parameter.name);
        self.number(parameter.ty);
        self.flag(parameter.is_by_ref);
    }
}

impl<'a> ByteReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads the number of the format, which is at most `newest`.
    ///
    /// # Errors
    ///
    /// It is none that is known.
    pub(super) fn format(&mut self, newest: u32) -> Result<u32, String> {
        match self.number() {
            None | Some(0) => Err(DAMAGED.to_owned()),
            Some(found) if found > newest => Err(format!(
                "it was built with a newer hotswap-sdk, whose plugins describe themselves in another format \
                 (expected {newest}, found {found}): build it with the host's"
            )),
            Some(found) => Ok(found),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn description(&mut self) -> Option<Description> {
        let read = Description {
            name: self.text()?,
            version: self.text()?,
            root: self.number()?,
            types: self.list(Self::shape)?,
        };
        let is_closed = read.type_indexes().all(|it| read.get(it).is_some());
        is_closed.then_some(read)
    }

    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        Some(self.number()? != 0)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    pub(super) fn list<T>(&mut self, read: fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        // Each item takes at least four bytes, so a wrong count ends when there are no more.
        (0..count).map(|_| read(self)).collect()
    }

    fn shape(&mut self) -> Option<Shape> {
        let kind = self.number()?;
        let name = self.text()?;
        match kind {
            0 => Some(Shape::Named(name, self.list(Self::number)?)),
            1 => Some(Shape::Struct(name, self.list(Self::field)?)),
            2 => Some(Shape::Enum(
                name,
                self.list(|it| Some((it.text()?, it.list(Self::field)?)))?,
            )),
            3 => Some(Shape::Interface(name, self.list(Self::method)?)),
            _ => None,
        }
    }

    fn method(&mut self) -> Option<Method> {
        Some(Method {
            name: self.text()?,
            has_default: self.flag()?,
            parameters: self.list(Self::parameter)?,
            result: self.number()?,
        })
    }

    fn field(&mut self) -> Option<Field> {
        Some(Field {
            name: self.text()?,
            ty: self.number()?,
            has_default: self.flag()?,
        })
    }

    fn parameter(&mut self) -> Option<Parameter> {
        Some(Parameter {
            name: self.text()?,
            ty: self.number()?,
            is_by_ref: self.flag()?,
        })
    }
}
