//! What a hotswap host and its plugins must both know, beside the interface that they have agreed on themselves.
//!
//! A plugin gets it with its interface package; a host with `hotswap-core`. Nothing here needs anything of either.

mod fault;
mod symbol;

pub use fault::{Answer, Fault, caught};
pub use symbol::{SYMBOL_PREFIX, SymbolMark, TypedSymbol};
