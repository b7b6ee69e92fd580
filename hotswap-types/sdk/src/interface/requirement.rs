//! What a plugin says of itself before its value is made: its interface, and the services of the host that its
//! constructor takes.

use super::{
    bytes::{ByteReader, ByteWriter, DAMAGED},
    description::Description,
};

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PluginDescription {
    pub(super) interface: Description,
    /// In the order of the constructor's parameters.
    pub(super) requirements: Vec<Requirement>,
}

/// A service of the host that a constructor takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Its interface, as the plugin knows it.
    pub(super) interface: Description,
    /// Whether the plugin can do without it.
    pub(super) is_optional: bool,
}

impl PluginDescription {
    /// The format. It changes with the bytes, with the arguments of a plugin's constructor, and with the views of the
    /// types that both sides know by name.
    const FORMAT: u32 = 2;
    /// In this older format, which is read, too, plugins take nothing from the host. Their constructors read only the
    /// beginning of today's arguments.
    const FORMAT_WITHOUT_REQUIREMENTS: u32 = 1;

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = ByteWriter::default();
        out.number(Self::FORMAT);
        out.description(&self.interface);
        out.list(&self.requirements, |out, it| {
            out.description(&it.interface);
            out.flag(it.is_optional);
        });
        out.into_bytes()
    }

    /// # Errors
    ///
    /// The bytes are malformed, or of a newer format, of which nothing else is read.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let mut bytes = ByteReader::new(bytes);
        let format = bytes.format(Self::FORMAT)?;
        let requirement = |bytes: &mut ByteReader<'_>| {
            Some(Requirement {
                interface: bytes.description()?,
                is_optional: bytes.flag()?,
            })
        };
        let mut read = || {
            Some(Self {
                interface: bytes.description()?,
                requirements: match format {
                    Self::FORMAT_WITHOUT_REQUIREMENTS => Vec::new(),
                    _ => bytes.list(requirement)?,
                },
            })
        };
        let read = read();
        read.filter(|_| bytes.is_empty())
            .ok_or_else(|| DAMAGED.to_owned())
    }
}
