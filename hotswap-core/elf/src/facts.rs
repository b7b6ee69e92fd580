//! What the inspection has found out about a file that passed.

/// What the inspection has found out about a file that passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The file's own name, by which others may need it (`DT_SONAME`).
    pub soname: Option<String>,
    /// The libraries that the file needs, in order (`DT_NEEDED`).
    pub needed: Vec<String>,
    /// The libraries that the loader asks first for the file's own symbols (`DT_AUXILIARY`, `DT_FILTER`). It loads
    /// them, too, but goes on without those of `DT_AUXILIARY` that it does not find.
    pub filters: Vec<String>,
    /// The search path for these libraries (`DT_RUNPATH`).
    pub runpath: Option<String>,
    /// The search path for these libraries and for those that they need (`DT_RPATH`). `None` if the file has a
    /// `DT_RUNPATH`, because the loader then ignores `DT_RPATH`.
    pub rpath: Option<String>,
    /// The linker's build id, in hexadecimal. Two files linked from the same input have the same build id.
    pub build_id: Option<String>,
    /// For [`Export::Prefixed`](crate::Export::Prefixed): the part of each name after the prefix, sorted.
    pub exported_names: Vec<String>,
    /// Whether the file defines the [`marker`](crate::Query::marker) of the query, as a `static` that `dlsym` finds.
    pub has_marker: bool,

    /// Whether the file is linked with `-z nodelete`; `dlclose` then never unmaps it.
    pub nodelete: bool,
    /// The changes to the file that remove `nodelete`.
    pub without_nodelete: Vec<Change>,
    /// Whether the file defines `STB_GNU_UNIQUE` symbols. Once one of them is bound, glibc never unmaps the image.
    pub unique_symbols: bool,
    /// Whether one of these symbols is a static of a class in namespace `std`; libstdc++ may define it too.
    pub unique_in_std: bool,
    /// The changes to the file that turn these symbols into weak symbols.
    pub without_unique: Vec<Change>,

    /// Whether the file imports a function that registers thread-local destructors (`__cxa_thread_atexit`). glibc
    /// keeps an image mapped as long as a thread lives that has used one of the image's thread-locals with a
    /// destructor.
    pub thread_exit_hook: bool,
    /// Whether the file imports a function that creates pthread keys (`pthread_key_create`). The destructor of a key
    /// is called when a thread ends, even if the image has been unmapped.
    pub creates_keys: bool,
    /// Whether the file imports a function that starts threads (`pthread_create`), or may look one up with `dlsym`. A
    /// thread may still run when the image has been unmapped.
    pub starts_threads: bool,
    /// Whether the file imports `pthread_create` itself.
    pub imports_pthread_create: bool,
    /// Imported functions that may leave behind something else that refers to the image and that `dlclose` does not
    /// remove. Each has the name that a programmer knows; the list is sorted.
    pub keeping_functions: Vec<&'static str>,
    /// A symbol that the file imports from a Rust library: it then shares std, or another crate, with other images.
    /// At most the first 512 bytes of the symbol's name.
    pub imports_rust: Option<String>,

    /// Whether the file asks for a stack that can be executed, or does not say and the machine's default is such a
    /// stack. The loader then makes the stacks of all threads executable before it links the file (glibc up to 2.40;
    /// later ones refuse the file).
    pub executable_stack: bool,

    /// How many bytes of thread-local storage the file adds to each thread.
    pub tls_bytes: u64,
    /// Whether the file's thread-locals must lie in the static TLS block. A running process has little of it left
    /// (about 1.6 KB in glibc 2.36), so opening the file a few times may fail.
    pub static_tls: bool,
}

impl Facts {
    /// The libraries that the loader loads, or tries to load, for the file: those that it needs, then its filters.
    pub fn libraries(&self) -> impl Iterator<Item = &str> {
        self.needed.iter().chain(&self.filters).map(String::as_str)
    }

    /// How many bytes of the static TLS block the file uses, if its thread-locals must lie there.
    pub fn static_tls_bytes(&self) -> Option<u64> {
        self.static_tls.then_some(self.tls_bytes)
    }
}

/// One byte of the file to replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The byte's offset in the file.
    pub offset: u64,
    /// The byte that the file has at the offset.
    pub from: u8,
    /// The byte to write instead.
    pub to: u8,
}
