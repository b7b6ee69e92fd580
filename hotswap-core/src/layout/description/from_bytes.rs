//! Structures made of bytes, whatever the bytes are.
//!
//! zerocopy does the same. With the parser that its derive macro needs and nothing else here does, it was 7 of the 83
//! seconds of processor time of the demo's first build (2026-11).

use std::array;

/// Makes a structure of its fields, each read at its offset.
pub(super) use hotswap_derive::FromBytes;

/// A value that any bytes make.
pub(super) trait FromBytes: Sized {
    /// Reads the value from the first of these bytes, in the byte order of this machine.
    ///
    /// # Panics
    ///
    /// There are fewer bytes than `size_of::<Self>()`.
    fn from_bytes(bytes: &[u8]) -> Self;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl FromBytes for $integer {
            fn from_bytes(bytes: &[u8]) -> Self {
                let (first, _) = bytes.split_first_chunk().expect("enough bytes");
                Self::from_ne_bytes(*first)
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, usize);

impl<T: FromBytes, const N: usize> FromBytes for [T; N] {
    fn from_bytes(bytes: &[u8]) -> Self {
        array::from_fn(|index| T::from_bytes(&bytes[index * size_of::<T>()..]))
    }
}
