//! The dynamic linker: it opens nothing.

use std::{
    convert::Infallible,
    ffi::{CStr, CString, OsStr, c_void},
    iter,
    marker::PhantomData,
    ops::Range,
    path::Path,
    ptr::NonNull,
};

pub(crate) use crate::system::mapping::{Access, Mapping};

/// Why nothing can be unloaded on this system.
pub(crate) const CANNOT_UNLOAD: Option<&str> = Some(if cfg!(target_vendor = "apple") {
    // Said at WWDC 2017, session 413 (29:36). Almost every library in Rust has some: std's.
    "the dynamic linker of macOS never unmaps an object that has thread-locals"
} else if cfg!(target_env = "musl") {
    // <https://wiki.musl-libc.org/functional-differences-from-glibc.html>, *Unloading libraries*.
    "the function `dlclose` of musl does nothing"
} else if cfg!(windows) {
    "the loader of Windows is not supported yet"
} else {
    "its dynamic linker is not supported yet"
});

pub(crate) fn applies_relr() -> bool {
    false
}

pub(crate) fn opens_filters() -> bool {
    false
}

pub(crate) struct Object {
    pub(crate) name: Option<CString>,
    pub(crate) bias: usize,
    never: Infallible,
}

impl Object {
    /// # Safety
    /// No conditions: it opens nothing.
    pub(crate) unsafe fn open(_: &Path) -> Result<Self, String> {
        Err(super::unsupported().to_string())
    }

    pub(crate) fn mapped(_: &OsStr) -> Option<Self> {
        None
    }

    pub(crate) fn mapped_as(_: &CStr) -> Option<Self> {
        None
    }

    pub(crate) fn path(&self) -> &Path {
        match self.never {}
    }

    pub(crate) fn symbol(&self, _: &str) -> Option<NonNull<c_void>> {
        match self.never {}
    }

    pub(crate) fn close(self) {
        match self.never {}
    }
}

pub(crate) struct Description<'a> {
    pub(crate) name: &'a CStr,
    never: Infallible,
    info: PhantomData<&'a ()>,
}

impl Description<'_> {
    pub(crate) fn path(&self) -> &Path {
        match self.never {}
    }

    pub(crate) fn mapping(&self, _: Access) -> Mapping {
        match self.never {}
    }

    pub(crate) fn segments(&self, _: Access) -> impl Iterator<Item = Range<usize>> {
        iter::empty()
    }
}

pub(crate) fn find_object<T>(_: impl FnMut(&Description<'_>) -> Option<T>) -> Option<T> {
    None
}

pub(crate) fn is_mapped(_: &CStr) -> bool {
    false
}

pub(crate) fn each_object(_: impl FnMut(&Description<'_>)) {}
