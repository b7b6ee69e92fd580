//! Typed symbols: single values that a `cdylib` exports under a name, each with the layout of its type. What
//! [`update`](macro@crate::update) exports is one.
//!
//! # Invariants
//! - What stands before the value has the same layout for every type, so that a host can read it before it knows
//!   whether the type is the one that it expects.
//! - abi_stable's own header stands first: whether the layout behind it can be read, it says.
//! - Nothing has to run for it: an export is a constant.

use abi_stable::{StableAbi, library::AbiHeader, type_layout::TypeLayout};

/// What the name of each typed symbol begins with in the symbol table. A plain C function of the same name does
/// not get in its way.
pub const SYMBOL_PREFIX: &str = "hotswap_symbol_";

/// A value, and before it what a host has to know of its type.
#[derive(Debug)]
#[repr(C)]
pub struct TypedSymbol<T> {
    /// What is read first.
    pub mark: SymbolMark,
    /// The type.
    pub layout: &'static TypeLayout,
    /// The value.
    pub value: T,
}

/// By this a host knows a typed symbol. Any bytes are one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SymbolMark {
    /// Which abi_stable has made the layout.
    pub header: AbiHeader,
    /// Of [`TypedSymbol`]: [`VERSION`](Self::VERSION).
    pub version: u32,
}

impl SymbolMark {
    /// Changes when a field of [`TypedSymbol`] changes its meaning.
    pub const VERSION: u32 = 1;
}

impl<T: StableAbi> TypedSymbol<T> {
    /// Describes `value`.
    pub const fn new(value: T) -> Self {
        Self {
            mark: SymbolMark {
                header: AbiHeader::VALUE,
                version: SymbolMark::VERSION,
            },
            layout: T::LAYOUT,
            value,
        }
    }
}
