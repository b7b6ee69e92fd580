//! The structures by which abi_stable 0.11.3 describes types.
//!
//! They are private there (`type_layout`, `library/lib_header.rs`, `prefix_type.rs`, `sabi_trait`), so this module
//! repeats them, with numbers in place of pointers, bools and tags. `Cargo.toml` pins the version, the assertions
//! below compare the sizes, and a test follows the descriptions that abi_stable has made for this crate.

use std::ops::Range;

use abi_stable::{
    abi_stability::ConstGeneric,
    external_types::RMutex,
    library::{AbiHeader, LibHeader},
    type_layout::{
        CompGenericParams, CompTLField, CompTLFields, CompTLFunction, GenericTLData,
        LifetimeIndexPair, MonoSharedVars, MonoTLData, MonoTLEnum, MonoTLPrefixType,
        MonoTypeLayout, SharedVars, TLFunctions, TLNonExhaustive, TypeLayout,
    },
};

use super::{Damaged, from_bytes::FromBytes};

/// Asserts that each structure is as large as the one that it repeats.
macro_rules! same_sizes {
    ($($here:ty = $there:ty),* $(,)?) => {
        $(const _: () = assert!(
            size_of::<$here>() == size_of::<$there>() && align_of::<$here>() == align_of::<$there>()
        );)*
    };
}

same_sizes! {
    Header = LibHeader,
    Type = TypeLayout,
    MonoType = MonoTypeLayout,
    Shared = SharedVars,
    Strings = MonoSharedVars,
    TypeData = GenericTLData,
    MonoData = MonoTLData,
    EnumData = MonoTLEnum,
    PrefixData = MonoTLPrefixType,
    Fields = CompTLFields,
    Field = CompTLField,
    Functions = TLFunctions,
    Function = CompTLFunction,
    Generics = CompGenericParams,
    NonExhaustive = TLNonExhaustive,
    Constant = ConstGeneric,
    Tag = abi_stable::type_layout::Tag,
    StartLen = abi_stable::type_layout::StartLen,
    Text = abi_stable::std_types::RStr<'static>,
    ExtraChecks = abi_stable::abi_stability::extra_checks::StoredExtraChecks,
    u8 = LifetimeIndexPair,
}

/// `RStr`.
#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
pub(super) struct Text {
    pub(super) first: usize,
    pub(super) len: usize,
}

/// `LibHeader`.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct Header {
    mark: [u8; size_of::<AbiHeader>()],
    pub(super) base_name: Text,
    pub(super) name: Text,
    pub(super) version: Text,
    pub(super) layout: IsLayoutChecked,
    pub(super) abi_tests: usize,
    pub(super) init_globals: usize,
    /// 0 until the root module has been created.
    pub(super) module: usize,
    lock: [usize; size_of::<RMutex<()>>() / size_of::<usize>()],
    pub(super) constructor: usize,
}

impl Header {
    pub(super) const LAYOUT: u8 = 0;
    pub(super) const NO_LAYOUT: u8 = 1;
    /// The functions of `CAbiTestingFns`.
    pub(super) const ABI_TESTS: usize =
        size_of::<abi_stable::library::c_abi_testing::CAbiTestingFns>() / size_of::<usize>();

    pub(super) fn lock_vtable(&self) -> usize {
        // The lock's functions are the last field of `RMutex`.
        *self.lock.last().expect("more than one word")
    }
}

#[derive(FromBytes)]
#[repr(C)]
pub(super) struct IsLayoutChecked {
    pub(super) tag: u8,
    pub(super) description: usize,
}

/// The functions of a lock.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct LockVtable {
    pub(super) functions: [usize; 4],
}

/// `TypeLayout`.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct Type {
    pub(super) shared: usize,
    pub(super) mono: usize,
    pub(super) is_nonzero: u8,
    alignment_power: u8,
    pub(super) size: usize,
    pub(super) tag: usize,
    pub(super) data: TypeData,
    pub(super) extra_checks: usize,
    pub(super) type_id: usize,
}

impl Type {
    /// The alignment of a value, in bytes.
    pub(super) fn alignment(&self) -> Result<usize, Damaged> {
        1_usize
            .checked_shl(self.alignment_power.into())
            .ok_or(Damaged)
    }
}

/// `GenericTLData`. The fields after the tag are those of an enum. For a prefix type they are a number; other kinds
/// have none.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct TypeData {
    pub(super) tag: u32,
    pub(super) non_exhaustive: usize,
    pub(super) discriminants_tag: u8,
    pub(super) discriminants_len: u16,
    pub(super) discriminants: usize,
}

/// Bytes of one discriminant, indexed by the tag of `TLDiscriminants`.
pub(super) const DISCRIMINANT_BYTES: [usize; 10] = [
    1,
    1,
    2,
    2,
    4,
    4,
    8,
    8,
    size_of::<usize>(),
    size_of::<isize>(),
];

/// `MonoTypeLayout`.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct MonoType {
    pub(super) strings: Strings,
    name: usize,
    pub(super) package: Text,
    line: u32,
    pub(super) module: usize,
    pub(super) data: MonoData,
    pub(super) generics: Generics,
    phantom_fields: usize,
    phantom_fields_len: u8,
    pub(super) repr: Repr,
    pub(super) reflection_tag: u8,
    reflection_index: u8,
    name_len: u16,
}

impl MonoType {
    pub(super) const REFLECTION_TAG_MAX: u8 = 2;

    pub(super) fn name(&self) -> Text {
        Text {
            first: self.name,
            len: self.name_len.into(),
        }
    }

    pub(super) fn phantom_fields(&self) -> Fields {
        Fields {
            first: self.phantom_fields,
            functions: 0,
            len: self.phantom_fields_len.into(),
        }
    }
}

/// `ReprAttr`.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct Repr {
    tag: u8,
    /// For a representation by an integer: which one. For a packed one: the alignment.
    value: u8,
}

impl Repr {
    pub(super) fn is_valid(&self) -> bool {
        const C_AND_INTEGER: u8 = 3;
        const INTEGER: u8 = 5;
        const PACKED: u8 = 6;
        const INTEGER_MAX: u8 = 11;
        match self.tag {
            C_AND_INTEGER | INTEGER => self.value <= INTEGER_MAX,
            PACKED => u32::from(self.value) < usize::BITS,
            tag => tag < PACKED,
        }
    }
}

pub(super) const PRIMITIVE: u8 = 0;
pub(super) const OPAQUE: u8 = 1;
pub(super) const STRUCT: u8 = 2;
pub(super) const UNION: u8 = 3;
pub(super) const ENUM: u8 = 4;
pub(super) const PREFIX: u8 = 5;
pub(super) const PRIMITIVE_MAX: u8 = 17;

/// `MonoTLData`. The tag decides how the rest is read.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct MonoData {
    pub(super) tag: u8,
    pub(super) primitive: u8,
    rest: [usize; 5],
}

impl MonoData {
    pub(super) fn fields(&self) -> Fields {
        self.rest()
    }

    pub(super) fn enumeration(&self) -> EnumData {
        self.rest()
    }

    pub(super) fn prefix(&self) -> PrefixData {
        self.rest()
    }

    fn rest<T: FromBytes>(&self) -> T {
        let bytes: Vec<u8> = self
            .rest
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        T::from_bytes(&bytes)
    }
}

/// `MonoTLEnum`.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct EnumData {
    pub(super) field_counts: usize,
    pub(super) field_counts_len: u16,
    pub(super) variant_names: StartLen,
    pub(super) fields: Fields,
}

/// `MonoTLPrefixType`.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct PrefixData {
    pub(super) first_suffix_field: u8,
    conditional: u64,
    pub(super) fields: Fields,
}

/// `SharedVars`.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct Shared {
    pub(super) strings: usize,
    pub(super) types: usize,
    pub(super) constants: usize,
    pub(super) types_len: u16,
    pub(super) constants_len: u16,
}

/// `MonoSharedVars`.
#[derive(Clone, Copy, PartialEq, FromBytes)]
#[repr(C)]
pub(super) struct Strings {
    texts: usize,
    pub(super) lifetimes: usize,
    texts_len: u16,
    pub(super) lifetimes_len: u16,
}

impl Strings {
    pub(super) fn text(&self) -> Text {
        Text {
            first: self.texts,
            len: self.texts_len.into(),
        }
    }
}

/// `CompGenericParams`.
#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
pub(super) struct Generics {
    pub(super) lifetimes: usize,
    pub(super) types: StartLen,
    pub(super) constants: StartLen,
    lifetime_count: u8,
}

/// `CompTLFields`.
#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
pub(super) struct Fields {
    pub(super) first: usize,
    pub(super) functions: usize,
    pub(super) len: u16,
}

/// `CompTLField`: several values packed into one number.
#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
pub(super) struct Field(u64);

impl Field {
    pub(super) fn name(self) -> StartLen {
        const LEN_MAX: u32 = 0x3ff;
        let bits = self.0 as u32;
        StartLen(bits & 0xffff | (bits >> 16 & LEN_MAX) << 16)
    }

    pub(super) fn lifetimes(self) -> Lifetimes {
        Lifetimes((self.0 >> 26) as u32)
    }

    pub(super) fn type_index(self) -> usize {
        (self.0 >> 50 & TYPE_INDEX_MAX) as usize
    }
}

const TYPE_INDEX_MAX: u64 = 0x3ff;

/// `TLFunctions`.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct Functions {
    pub(super) first: usize,
    pub(super) ranges: usize,
    pub(super) len: u16,
    pub(super) ranges_len: u16,
}

/// `CompTLFunction`.
#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
pub(super) struct Function {
    pub(super) name: StartLen,
    texts_start: u16,
    bound_lifetimes_len: u16,
    parameter_names_len: u16,
    result: u16,
    lifetimes: u32,
    parameters: [u32; 2],
    qualifiers: u16,
}

impl Function {
    /// The names of the function's lifetimes, followed by the names of its parameters.
    pub(super) fn texts(self) -> [Range<usize>; 2] {
        let start = usize::from(self.texts_start);
        let middle = start + usize::from(self.bound_lifetimes_len);
        [
            start..middle,
            middle..middle + usize::from(self.parameter_names_len),
        ]
    }

    pub(super) fn lifetimes(self) -> Lifetimes {
        Lifetimes(self.lifetimes)
    }

    /// abi_stable always takes five types from the table, even if there are fewer parameters. Further parameters
    /// follow the last of the five.
    pub(super) fn parameters_are_inside(self, types: usize) -> bool {
        const INLINE: usize = 5;
        let [low, high] = self.parameters.map(u64::from);
        let count = (low & TYPE_INDEX_MAX) as usize;
        let bits = [low >> 10, low >> 20, high, high >> 10, high >> 20];
        let indices = bits.map(|bits| (bits & TYPE_INDEX_MAX) as usize);
        let end = indices[INLINE - 1] + 1 + count.saturating_sub(INLINE);
        indices.iter().all(|index| *index < types) && (count <= INLINE || end <= types)
    }
}

/// `StartLen`: two values packed into one number.
#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
pub(super) struct StartLen(u32);

impl StartLen {
    pub(super) fn range(self) -> Range<usize> {
        let (start, len) = (self.0 & 0xffff, self.0 >> 16);
        start as usize..(start + len) as usize
    }

    pub(super) fn is_inside(self, count: usize) -> bool {
        self.range().end <= count
    }
}

/// `LifetimeRange`: either the lifetimes themselves, or a range of the table that lists them.
#[derive(Clone, Copy)]
pub(super) struct Lifetimes(u32);

impl Lifetimes {
    pub(super) fn is_inside(self, listed: usize) -> bool {
        const IS_RANGE: u32 = 1 << 20;
        let (start, pairs) = (self.0 & 0x1fff, self.0 >> 13 & 0x7f);
        self.0 & IS_RANGE == 0 || (start + pairs) as usize <= listed
    }
}

/// `TLNonExhaustive`.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct NonExhaustive {
    size: usize,
    pub(super) alignment_power: u8,
}

/// `ConstGeneric`.
#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
pub(super) struct Constant {
    pub(super) value: usize,
    pub(super) vtable: usize,
}

#[derive(FromBytes)]
#[repr(C)]
pub(super) struct ConstVtable {
    pub(super) layout: usize,
    pub(super) equal: usize,
    pub(super) debug: usize,
}

/// `Tag`. Its variant decides how the rest is read.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct Tag {
    pub(super) variant: u8,
    /// A reference, or the beginning of a slice. For a primitive: the primitive's tag, and its value if it is a bool.
    pub(super) first: usize,
    /// The length of the slice, or the beginning of a text.
    pub(super) second: usize,
    third: usize,
}

impl Tag {
    pub(super) const PRIMITIVE: u8 = 0;
    pub(super) const IGNORED: u8 = 1;
    pub(super) const ARRAY: u8 = 2;
    pub(super) const SET: u8 = 3;
    pub(super) const MAP: u8 = 4;

    pub(super) const BOOL: u8 = 1;
    pub(super) const TEXT: u8 = 4;
    pub(super) const PRIMITIVE_MAX: u8 = 4;

    /// The tag of a primitive, and its value if it is a bool.
    pub(super) fn primitive(&self) -> (u8, u8) {
        let bytes = self.first.to_ne_bytes();
        (bytes[0], bytes[1])
    }

    pub(super) fn text(&self) -> Text {
        Text {
            first: self.second,
            len: self.third,
        }
    }
}

/// What precedes the fields of a prefix type (`WithMetadata_`).
#[derive(FromBytes)]
#[repr(C)]
pub(in crate::layout) struct Object {
    /// A bit for each field: whether it is accessible.
    pub(in crate::layout) accessible: u64,
    pub(super) names: usize,
}

/// `StoredExtraChecks`.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct ExtraChecks {
    pub(super) vtable: usize,
    pub(super) value: usize,
}

/// The functions of the extra checks that abi_stable calls.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct ExtraVtable {
    pub(super) object: usize,
    pub(super) methods: [usize; 4],
}

/// `RObjectVtable`. An optional function is 0 if it is missing.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct ObjectVtable {
    pub(super) type_id: usize,
    pub(super) drop: usize,
    pub(super) clone: usize,
    pub(super) debug: usize,
    pub(super) display: usize,
}
