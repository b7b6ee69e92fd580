//! Reads the parts of a description, after checking that this is safe.

use std::mem;

use super::{
    Damaged,
    format::{Object, Text},
    from_bytes::FromBytes,
};
use crate::image::Image;

/// The access that a description needs to an image.
pub(super) trait Memory {
    /// Copies the bytes at `address`. `false`: they do not all lie in one readable segment.
    fn read(&self, address: usize, into: &mut [u8]) -> bool;

    /// Whether a function may begin at `address`.
    fn is_code(&self, address: usize) -> bool;

    /// Calls the function at this address, which returns the address of a description.
    fn call(&self, function: usize) -> usize;
}

impl Memory for Image {
    fn read(&self, address: usize, into: &mut [u8]) -> bool {
        Image::read(self, address, into)
    }

    fn is_code(&self, address: usize) -> bool {
        Image::is_code(self, address)
    }

    fn call(&self, function: usize) -> usize {
        // SAFETY: `function` lies in code of the image (`Reader::describing`). The image has a function of this type
        // there, unless it is damaged (`Trust::vouch`). The image is mapped and initialised.
        let function = unsafe { mem::transmute::<usize, extern "C" fn() -> usize>(function) };
        function()
    }
}

/// The size of the largest structure that is read.
const ITEM_BYTES_MAX: usize = 256;
/// The longest zero-terminated text.
const TERMINATED_BYTES_MAX: usize = 1 << 16;
/// Below this address nothing is mapped. References to zero-sized values lie there.
const FIRST_PAGE: usize = 4096;

/// Reads structures from a [`Memory`].
pub(super) struct Reader<'a, M>(pub(super) &'a M);

impl<M: Memory> Reader<'_, M> {
    /// Checks that a value of this size and alignment can lie at `address`. A zero-sized value may lie anywhere.
    pub(super) fn value(&self, address: usize, bytes: usize, align: usize) -> Result<(), Damaged> {
        require(address != 0 && address.is_multiple_of(align))?;
        self.bytes(address, bytes).map(drop)
    }

    /// Checks the address of a value whose size only the plugin knows.
    pub(super) fn unknown_value(&self, address: usize) -> Result<(), Damaged> {
        require(address != 0 && (address < FIRST_PAGE || self.0.read(address, &mut [0])))
    }

    /// The fields of a vtable. All of them must be accessible.
    pub(super) fn vtable<T: FromBytes>(&self, address: usize) -> Result<T, Damaged> {
        let object: Object = self.item(address)?;
        let fields = size_of::<T>() / size_of::<usize>();
        let all = u64::MAX >> (64 - fields);
        require(object.accessible & all == all)?;
        // abi_stable reads the names when a field is missing, which none is here.
        require(self.0.read(object.names, &mut []))?;
        self.item(offset(address, 1, size_of::<Object>())?)
    }

    /// Calls a function that returns a description.
    pub(super) fn describing(&self, function: usize) -> Result<usize, Damaged> {
        self.code(function)?;
        Ok(self.0.call(function))
    }

    /// Checks a function that will be called.
    pub(super) fn code(&self, address: usize) -> Result<(), Damaged> {
        require(self.0.is_code(address))
    }

    pub(super) fn text(&self, text: Text) -> Result<String, Damaged> {
        String::from_utf8(self.bytes(text.first, text.len)?).map_err(|_| Damaged)
    }

    /// Checks a zero-terminated text.
    pub(super) fn terminated(&self, address: usize) -> Result<(), Damaged> {
        let mut text = Vec::new();
        let mut part = [0; 32];
        while text.len() < TERMINATED_BYTES_MAX {
            let at = offset(address, text.len(), 1)?;
            // Near the end of a segment there may be no bytes after the zero.
            let length = if self.0.read(at, &mut part) {
                part.len()
            } else {
                1
            };
            require(length > 1 || self.0.read(at, &mut part[..1]))?;
            let end = part[..length].iter().position(|byte| *byte == 0);
            text.extend_from_slice(&part[..end.unwrap_or(length)]);
            if end.is_some() {
                return std::str::from_utf8(&text).map(drop).map_err(|_| Damaged);
            }
        }
        Err(Damaged)
    }

    /// One structure.
    pub(super) fn item<T: FromBytes>(&self, address: usize) -> Result<T, Damaged> {
        let mut bytes = [0; ITEM_BYTES_MAX];
        let bytes = &mut bytes[..size_of::<T>()];
        require(address.is_multiple_of(align_of::<T>()) && self.0.read(address, bytes))?;
        Ok(T::from_bytes(bytes))
    }

    /// A table of structures.
    pub(super) fn items<T: FromBytes>(&self, first: usize, count: u16) -> Result<Vec<T>, Damaged> {
        let count = usize::from(count);
        require(first.is_multiple_of(align_of::<T>()))?;
        let bytes = self.bytes(first, count * size_of::<T>())?;
        Ok(bytes
            .chunks_exact(size_of::<T>())
            .map(T::from_bytes)
            .collect())
    }

    pub(super) fn bytes(&self, first: usize, count: usize) -> Result<Vec<u8>, Damaged> {
        let mut bytes = Vec::new();
        // An empty slice is not null either.
        require(first != 0)?;
        if count != 0 {
            // Read the last byte first: it shows that the bytes exist before memory for them is allocated.
            let end = first.checked_add(count - 1).ok_or(Damaged)?;
            require(self.0.read(end, &mut [0]))?;
            bytes.try_reserve_exact(count).map_err(|_| Damaged)?;
            bytes.resize(count, 0);
            require(self.0.read(first, &mut bytes))?;
        }
        Ok(bytes)
    }
}

pub(super) fn require(condition: bool) -> Result<(), Damaged> {
    condition.then_some(()).ok_or(Damaged)
}

pub(super) fn offset(first: usize, index: usize, each: usize) -> Result<usize, Damaged> {
    let bytes = index.checked_mul(each);
    bytes
        .and_then(|bytes| first.checked_add(bytes))
        .ok_or(Damaged)
}
