//! What is asked of a file, beside whether it can be opened.

/// What is asked of a file, beside whether it can be opened. By default nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// What the file has to define. It is refused if it does not.
    pub export: Option<Export<'a>>,
    /// The name of a `static` that the file may define. Whether it does is told by
    /// [`Facts::has_marker`](crate::Facts::has_marker).
    pub marker: Option<&'a str>,
}

/// What has to be in the file, by its symbol name.
#[derive(Clone, Copy, Debug)]
pub enum Export<'a> {
    /// A `static` that may be read as `size_min` bytes.
    Static {
        /// The symbol's name, without a NUL.
        name: &'a str,
        /// How many bytes may be read at its address.
        size_min: u64,
    },
    /// A function.
    Function {
        /// The symbol's name, without a NUL.
        name: &'a str,
    },
    /// All whose names begin with `prefix`, if there are any: each a `static` that may be read as `size_min`
    /// bytes. [`Facts::named`](crate::Facts::named) has the rest of their names.
    Prefixed {
        /// What the names begin with.
        prefix: &'a str,
        /// How many bytes may be read at each address.
        size_min: u64,
    },
}
