//! One dynamic symbol, and how `dlsym` treats it.

use object::NativeEndian as E;
use object::elf::{
    SHN_ABS, SHN_UNDEF, STB_GLOBAL, STB_GNU_UNIQUE, STB_WEAK, STT_COMMON, STT_FUNC, STT_GNU_IFUNC,
    STT_NOTYPE, STT_OBJECT, STT_TLS, STV_HIDDEN, STV_INTERNAL, Sym64, SymbolType,
};

pub(crate) type Symbol = Sym64<E>;

/// Whether the symbol stands for something in the image.
pub(crate) fn is_definition(symbol: &Symbol) -> bool {
    const DEFINING: [SymbolType; 6] = [
        STT_NOTYPE,
        STT_OBJECT,
        STT_FUNC,
        STT_COMMON,
        STT_TLS,
        STT_GNU_IFUNC,
    ];
    let (section, kind) = (symbol.st_shndx.get(E), symbol.st_type());
    let has_value = symbol.st_value.get(E) != 0 || section == SHN_ABS || kind == STT_TLS;
    section != SHN_UNDEF && has_value && DEFINING.contains(&kind)
}

/// Whether other images may bind to the symbol.
pub(crate) fn is_visible(symbol: &Symbol) -> bool {
    let visibility = symbol.st_visibility();
    let bound = matches!(symbol.st_bind(), STB_GLOBAL | STB_WEAK | STB_GNU_UNIQUE);
    bound && visibility != STV_HIDDEN && visibility != STV_INTERNAL
}

/// The symbol's type, as a message names it.
pub(crate) fn type_name(kind: SymbolType) -> String {
    match kind {
        STT_NOTYPE => "something without a type".into(),
        STT_OBJECT | STT_COMMON => "a static".into(),
        STT_FUNC => "a function".into(),
        STT_GNU_IFUNC => "an indirect function".into(),
        STT_TLS => "a thread-local".into(),
        SymbolType(other) => format!("symbol type {other}"),
    }
}
