//! What a loader gives: libraries, and functions and C symbols of them, which keep their library.

use std::{
    fmt,
    path::Path,
    process,
    sync::{Arc, Weak},
};

use hotswap_sdk::host::{AcceptedFunction, Function, FunctionHost, LeaseSource, LeasedBy};

use super::Shared;
use crate::{
    error::{ErrorKind, Result, Stage},
    function::{self, FunctionInfo},
    image::{self, Image},
    owned::HostOwned,
    symbol,
    trial::{self, Trial},
};

/// A library that is mapped for as long as this, a clone of it, one of its functions, or an object that such a function
/// has returned is there.
///
/// When the last of those is dropped, it is unloaded: beside whoever drops it, who only runs what the library
/// has left for the dropping thread to do (see [`detach_current_thread`](crate::detach_current_thread)).
#[derive(Clone)]
#[must_use = "it is unloaded when the last of these is dropped"]
pub struct Library {
    opened: Arc<Opened>,
}

/// A C symbol of a library, and the library with it.
#[must_use = "its library is unloaded when this is dropped"]
pub struct Symbol<T> {
    value: T,
    library: Library,
}

pub(super) struct Opened {
    /// There until this is dropped, or a trial takes it back.
    pub(super) image: Option<Image>,
    pub(super) number: u64,
    /// Where it goes then. In a trial's child it goes nowhere.
    pub(super) home: Option<Arc<Shared>>,
}

/// Where objects that the library's functions return get their leases. It does not itself keep the library: the
/// library's own memory may have it.
struct Leases(Weak<Opened>);

/// The lease of an object that the library has made, or of a waker of it.
struct ObjectLease {
    /// Only dropped.
    _library: Library,
}

impl Library {
    /// The function that the library exports as `name` with the types of `F`
    /// ([`#[function]`](hotswap_sdk::function)).
    ///
    /// # Errors
    ///
    /// It does not, or with other types.
    pub fn function<F: Function>(&self, name: &str) -> Result<F> {
        let function = function::find(self.image(), name)?;
        Ok(self.clone().bind(function))
    }

    /// The function that the library exports as `name`, as whatever `F` says it is: a C function, of which nothing is
    /// known but its address.
    ///
    /// The library may be any. One without `unloadable!` is unloaded where that is known to be safe, and stays mapped
    /// where it is not.
    ///
    /// # Errors
    ///
    /// The library itself (not one that it depends on) exports no function of that name.
    ///
    /// # Safety
    ///
    /// `F` is the type of a function pointer, with the calling convention, the parameters and the result of that
    /// function. Whoever calls it meets the function's own conditions. A name that is not exported, or that is not a
    /// function, is safely refused.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use hotswap_core::{Policy, Trust, loader::Loader};
    /// # let trust = unsafe { Trust::vouch(Policy::default()) };
    /// let maths = Loader::new(&trust)?.open("/lib/x86_64-linux-gnu/libm.so.6")?;
    /// // SAFETY: `double cos(double)`, which asks nothing of its callers (man 3 cos).
    /// let cos = unsafe { maths.c_function::<extern "C" fn(f64) -> f64>("cos") }?;
    /// assert_eq!(cos.with(|cos| cos(0.0)), 1.0);
    /// # Ok::<(), hotswap_core::Error>(())
    /// ```
    pub unsafe fn c_function<F: Copy>(&self, name: &str) -> Result<Symbol<F>> {
        // SAFETY: `F` is the type of a pointer to this function (`# Safety` of this function). The result is used only
        // through the symbol, whose library keeps the image mapped.
        let function = unsafe { symbol::c_function(self.image(), name) }?;
        Ok(self.clone().into_symbol(function))
    }

    /// The static that the library exports as `name`, as whatever `T` says it is.
    ///
    /// # Errors
    ///
    /// The library itself exports no static of that name, one that is smaller than a `T`, or one at an address that a
    /// `T` cannot have.
    ///
    /// # Safety
    ///
    /// The static holds a valid `T`, and is changed only in ways that a shared `T` allows.
    pub unsafe fn c_static<T: Sync>(&self, name: &str) -> Result<Symbol<&'static T>> {
        // SAFETY: the static holds a `T` (`# Safety` of this function). The library in the symbol keeps the image
        // mapped, and the symbol lends its value only while it exists.
        let value = unsafe { symbol::c_static(self.image(), name) }?;
        Ok(self.clone().into_symbol(value))
    }

    /// The functions that the library exports with [`#[export]`](hotswap_sdk::export), by name.
    pub fn functions(&self) -> Vec<FunctionInfo> {
        function::list(self.image())
    }

    /// Its number: counted from 1 in the order of opening, never used twice by a loader.
    pub fn number(&self) -> u64 {
        self.opened.number
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.image().origin().given
    }

    pub(super) fn new(opened: Opened) -> Self {
        Self {
            opened: Arc::new(opened),
        }
    }

    fn image(&self) -> &Image {
        let image = self.opened.image.as_ref();
        image.expect("there until the last of these is dropped")
    }

    /// `function` is of this library.
    pub(super) fn bind<F: Function>(self, function: AcceptedFunction<F>) -> F {
        let host = FunctionHost {
            leases: Arc::new(Leases(Arc::downgrade(&self.opened))),
            library: self.opened,
            before_call: hotswap_cell::pass_quiescent_point,
        };
        // SAFETY: the image is mapped as long as `opened` is not dropped, which is that of this function.
        unsafe { function.bind(host) }
    }

    pub(super) fn into_symbol<T>(self, value: T) -> Symbol<T> {
        Symbol {
            value,
            library: self,
        }
    }
}

impl<T> Symbol<T> {
    /// Calls `f` with the value.
    ///
    /// What `f` returns must belong to the host ([`HostOwned`]): what the value leads to is there only as long as the
    /// symbol is. Costs a look at a thread-local beside the call; waits for nobody. Before the call the
    /// thread does what libraries that were dropped have left for it to do.
    ///
    /// # Panics
    ///
    /// When `f` does.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::ffi::c_int;
    /// # use hotswap_core::loader::Symbol;
    /// fn minus_one(abs: &Symbol<extern "C" fn(c_int) -> c_int>) -> c_int {
    ///     abs.with(|abs| abs(-1))
    /// }
    /// ```
    ///
    /// A pointer into the library would outlive it:
    ///
    /// ```compile_fail,E0277
    /// # use std::ffi::c_int;
    /// # use hotswap_core::loader::Symbol;
    /// fn escape(abs: &Symbol<extern "C" fn(c_int) -> c_int>) -> extern "C" fn(c_int) -> c_int {
    ///     abs.with(|abs| *abs)
    /// }
    /// ```
    #[inline]
    pub fn with<R: HostOwned>(&self, f: impl FnOnce(&T) -> R) -> R {
        hotswap_cell::pass_quiescent_point();
        f(&self.value)
    }

    /// The library that it is from: for another symbol of the same one.
    pub fn library(&self) -> &Library {
        &self.library
    }
}

impl Trial<Library> {
    /// [`at_top_of_main`](Self::at_top_of_main) for the libraries of a [`Loader`](crate::loader::Loader): everything
    /// that is said there holds here.
    ///
    /// The probe takes functions out of the library, and calls them. It must not keep any of them, or the library.
    pub fn of_libraries_at_top_of_main(
        probe: fn(&Library) -> std::result::Result<(), String>,
    ) -> Self {
        Self::or_child(function::EXPORTS, &|image, reached| {
            let library = Library::new(Opened {
                image: Some(image),
                number: 0,
                home: None,
            });
            reached(Stage::Probe)?;
            trial::ask(|| probe(&library)).map_err(trial::refused)?;
            let Some(mut opened) = Arc::into_inner(library.opened) else {
                let reason = "the probe has kept the library".to_owned();
                return Err(trial::refused(ErrorKind::Probe { reason }));
            };
            let image = opened.image.take();
            Ok((image.expect("was there just now"), String::new()))
        })
    }
}

impl LeaseSource for Leases {
    fn lease(self: Arc<Self>, _: LeasedBy) -> Option<Box<dyn Send + Sync>> {
        let library = Library {
            opened: self.0.upgrade()?,
        };
        Some(Box::new(ObjectLease { _library: library }))
    }
}

impl Drop for ObjectLease {
    fn drop(&mut self) {
        // For a thread that only has objects, and calls no functions.
        hotswap_cell::pass_quiescent_point();
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let (Some(image), Some(home)) = (self.image.take(), &self.home) else {
            return;
        };
        if home.process != process::id() {
            // A child that was forked off has nobody who would unload it.
            return;
        }
        home.history.draining(self.number, Vec::new());
        let leaving = image.retire();
        image::detach_current_thread_from_retired();
        home.reaper.leave(self.number, leaving);
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library")
            .field("number", &self.number())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Symbol<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Symbol")
            .field("library", &self.library)
            .finish_non_exhaustive()
    }
}
