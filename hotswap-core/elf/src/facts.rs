//! What is true of a file that passed.

/// What is true of a file that passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The libraries it needs, in order (`DT_NEEDED`).
    pub needed: Vec<String>,
    /// Where it looks for them (`DT_RUNPATH`).
    pub runpath: Option<String>,
    /// Where it and what it needs look for them (`DT_RPATH`). Of a file with both, there is only the other.
    pub rpath: Option<String>,
    /// The linker's build id in hexadecimal: the same in two files that were linked from the same.
    pub build_id: Option<String>,
    /// Of an [`Export::Prefixed`](crate::Export::Prefixed), what follows the prefix in each name, sorted.
    pub named: Vec<String>,
    /// Defines the [`marker`](crate::Query::marker) that was asked for, as a `static` that `dlsym` finds.
    pub has_marker: bool,

    /// Linked with `-z nodelete`: `dlclose` never unmaps it.
    pub nodelete: bool,
    /// What to change in the file so that it is not.
    pub without_nodelete: Vec<Change>,
    /// Defines `STB_GNU_UNIQUE` symbols: once one is bound, glibc never unmaps the image.
    pub unique_symbols: bool,
    /// One of them is a static of a class in namespace `std`, such as libstdc++ has some of too.
    pub unique_in_std: bool,
    /// What to change in the file so that they are weak symbols.
    pub without_unique: Vec<Change>,

    /// Imports what registers destructors for the end of a thread (`__cxa_thread_atexit`): glibc keeps an image mapped
    /// for as long as a thread lives that has touched one of its thread-locals with a destructor.
    pub thread_exit_hook: bool,
    /// Imports what makes pthread keys (`pthread_key_create`), whose destructors are called at a thread's end whether
    /// or not the image is still there.
    pub makes_keys: bool,
    /// Imports what starts threads (`pthread_create`), which may run when the image is gone.
    pub starts_threads: bool,
    /// The imported functions, as a programmer calls them and sorted, by which something else may stay behind that
    /// refers to the image and that `dlclose` does not take back.
    pub leaves: Vec<&'static str>,
    /// A symbol that it takes from a Rust library: std, or another crate, is shared with others. Of its name, the first
    /// 512 bytes.
    pub imports_rust: Option<String>,

    /// How many bytes of thread-local storage each thread has of it.
    pub tls_bytes: u64,
    /// Its thread-locals must lie in the static TLS block, of which a running process has little left (about 1.6 KB in
    /// glibc 2.36): opening it a few times may fail.
    pub static_tls: bool,
}

impl Facts {
    /// How much of the static TLS block it takes up, if its thread-locals must lie there.
    pub fn static_tls_bytes(&self) -> Option<u64> {
        self.static_tls.then_some(self.tls_bytes)
    }
}

/// Another byte in the place of one of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it is in the file.
    pub offset: u64,
    /// What the file has there.
    pub from: u8,
    /// What it should have.
    pub to: u8,
}
