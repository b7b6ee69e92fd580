//! What the caller asks about a file, besides whether it can be opened.

/// What the caller asks about a file, besides whether it can be opened. The default asks nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// A symbol that the file must define. A file that does not define it is refused.
    pub export: Option<Export<'a>>,
    /// The name of a `static` that the file may define; [`Facts::has_marker`](crate::Facts::has_marker) says whether
    /// it does.
    pub marker: Option<&'a str>,
}

/// A symbol that the file must define.
#[derive(Clone, Copy, Debug)]
pub enum Export<'a> {
    /// A `static` of at least `size_min` readable bytes.
    Static {
        /// The symbol's name, without a NUL.
        name: &'a str,
        /// How many bytes the caller will read at the symbol's address.
        size_min: u64,
    },
    /// A function.
    Function {
        /// The symbol's name, without a NUL.
        name: &'a str,
    },
    /// Every symbol whose name begins with `prefix`, if there are any, must be a `static` of at least `size_min`
    /// readable bytes. [`Facts::exported_names`](crate::Facts::exported_names) lists the rest of each name.
    Prefixed {
        /// The common beginning of the names.
        prefix: &'a str,
        /// How many bytes the caller will read at each symbol's address.
        size_min: u64,
    },
}
