//! Single functions: what [`#[export]`](macro@crate::export) and [`#[function]`](macro@crate::function) expand to.
//!
//! An exported function is an entry, as that of a method is. It has no value: its `this` is not used. It is described
//! as an interface that has only this method.

use std::{fmt, marker::PhantomData, ops::Deref, ptr, sync::Arc};

use super::{
    by_value::ByValue,
    bytes::DAMAGED,
    call::{Entry, ReplyVtable, call_entry, dispatch},
    compare::{compare, function_text},
    description::{Description, Signature, TypeIndex, Types},
    fault::Fault,
    object::{DispatchTarget, LeaseSource, Leases},
};
use crate::{
    calling,
    fault::{IsCalling, note_panics_of_calls},
};

/// A type of functions, declared with [`#[function]`](macro@crate::function). A value of it is a function of a library,
/// which stays mapped as long as the value or a clone of it exists.
///
/// # Safety
///
/// The description has the types of the parameters and the result with which its [`RemoteFunction`] is called.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a type of exported functions",
    label = "not declared with `#[function]`",
    note = "declare it: `#[hotswap_sdk::function] type Name = fn(parameter: u32) -> String;`"
)]
pub unsafe trait Function: Clone + Send + Sync + 'static {
    /// Adds the parameters, and returns the result.
    fn describe_function(signature: &mut Signature<'_>) -> TypeIndex;

    /// A value that calls `remote`.
    fn from_remote(remote: RemoteFunction<Self>) -> Self;
}

/// A function with [`#[export]`](macro@crate::export).
///
/// # Safety
///
/// The argument list and the result of [`ENTRY`](Self::ENTRY) have the types in the description.
pub unsafe trait Exported {
    /// Its name.
    const NAME: &'static str;
    /// Calls it.
    const ENTRY: Entry;

    /// Adds the parameters, and returns the result.
    fn describe_function(signature: &mut Signature<'_>) -> TypeIndex;
}

/// The static that [`#[export]`](macro@crate::export) exports. Any bytes are one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ExportedFunction {
    mark: [u8; 16],
    version: u32,
    /// An entry that returns the description, as bytes. Its argument is an [`IsCalling`].
    describe: Option<Entry>,
    call: Option<Entry>,
}

/// An exported function whose mark was checked, and whose entries are code.
///
/// # Invariants
///
/// It is a copy of a static that `#[export]` has made.
#[derive(Clone, Copy, Debug)]
pub struct CheckedFunction {
    describe: Entry,
    call: Entry,
}

/// An exported function whose types were compared with those of `F`.
#[derive(Debug)]
pub struct AcceptedFunction<F> {
    call: Entry,
    of: PhantomData<fn() -> F>,
}

/// A handle on a function of a library.
///
/// # Invariants
///
/// The function's types were compared with those of `F`.
pub struct RemoteFunction<F> {
    call: Entry,
    before_call: fn(),
    /// Where objects that it returns get their leases.
    leases: Leases,
    /// Keeps the code mapped. Dropped last.
    library: Arc<dyn Send + Sync>,
    of: PhantomData<fn() -> F>,
}

/// What a host adds to a function of a library.
pub struct FunctionHost {
    /// Keeps the library mapped.
    pub library: Arc<dyn Send + Sync>,
    /// Leases the library for objects that the function returns.
    pub leases: Arc<dyn LeaseSource>,
    /// Called before each call, on the caller's thread.
    pub before_call: fn(),
}

/// The target of entries that have no value.
#[derive(Debug)]
pub struct NoValue;

impl ExportedFunction {
    /// What the name of the static begins with in the symbol table; the name of the function follows.
    pub const SYMBOL_PREFIX: &'static str = "hotswap_function_";
    /// Changes when a field changes its meaning, or when calls or descriptions are encoded in another way.
    pub const VERSION: u32 = 1;
    const MARK: [u8; 16] = *b"hotswap function";

    /// The static for `F`.
    pub const fn new<F: Exported>() -> Self {
        Self {
            mark: Self::MARK,
            version: Self::VERSION,
            describe: Some(describe::<F>),
            call: Some(F::ENTRY),
        }
    }

    /// Checks the mark, and by `is_code` the addresses of the entries.
    ///
    /// # Errors
    ///
    /// What is wrong, as the end of a sentence that begins with the name.
    ///
    /// # Safety
    ///
    /// If it has the mark, `#[export]` has made it, or its file is damaged in a way that `is_code` finds.
    pub unsafe fn check(self, is_code: impl Fn(usize) -> bool) -> Result<CheckedFunction, String> {
        if self.mark != Self::MARK {
            return Err("is not an exported function".to_owned());
        }
        if self.version != Self::VERSION {
            let (found, expected) = (self.version, Self::VERSION);
            return Err(format!(
                "is an exported function of version {found}, expected {expected}"
            ));
        }
        match (self.describe, self.call) {
            (Some(describe), Some(call))
                if is_code(describe as usize) && is_code(call as usize) =>
            {
                Ok(CheckedFunction { describe, call })
            }
            _ => Err("is not code".to_owned()),
        }
    }
}

impl CheckedFunction {
    /// Its type as its author writes it: `fn(name: &str) -> String`. Runs the plugin's code.
    ///
    /// # Errors
    ///
    /// Its description is damaged.
    ///
    /// # Safety
    ///
    /// Its image is mapped.
    pub unsafe fn text(self) -> Result<String, String> {
        // SAFETY: the image is mapped (`# Safety` of this function).
        let description = unsafe { self.description() };
        function_text(&description?).ok_or_else(|| DAMAGED.to_owned())
    }

    /// Checks that it is an `F`. Runs the plugin's code.
    ///
    /// # Errors
    ///
    /// Where the types differ, what was expected and what was found.
    ///
    /// # Safety
    ///
    /// Its image is mapped.
    pub unsafe fn accept<F: Function>(self, name: &str) -> Result<AcceptedFunction<F>, String> {
        // SAFETY: the image is mapped (`# Safety` of this function).
        let found = unsafe { self.description() };
        let found = found.map_err(|problem| format!("{name}: {problem}"))?;
        compare(&description(name, F::describe_function), &found).map_err(|it| it.to_string())?;
        Ok(AcceptedFunction {
            call: self.call,
            of: PhantomData,
        })
    }

    /// # Errors
    ///
    /// It has none that can be read.
    ///
    /// # Safety
    ///
    /// Its image is mapped.
    unsafe fn description(self) -> Result<Description, String> {
        let is_calling = calling::is_calling as IsCalling;
        // SAFETY: the entry takes an `IsCalling`, returns bytes and does not use `this` (invariant of
        // `CheckedFunction`). Its image is mapped (`# Safety` of this function).
        let bytes =
            unsafe { call_entry::<_, Vec<u8>>(self.describe, ptr::null(), &is_calling, &None) };
        Description::from_bytes(&bytes.map_err(|_| DAMAGED)?)
    }
}

impl<F: Function> AcceptedFunction<F> {
    /// The function.
    ///
    /// # Safety
    ///
    /// Its image stays mapped as long as `host.library` is not dropped.
    pub unsafe fn bind(self, host: FunctionHost) -> F {
        F::from_remote(RemoteFunction {
            call: self.call,
            before_call: host.before_call,
            leases: Some(host.leases),
            library: host.library,
            of: PhantomData,
        })
    }
}

impl<F: Function> RemoteFunction<F> {
    /// Where objects that come from the other side get their leases.
    #[inline]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Calls the function.
    ///
    /// # Errors
    ///
    /// It has not returned a result.
    ///
    /// # Safety
    ///
    /// By the description of `F`, its argument list is an `A` and its result an `R`. The values that the arguments view
    /// are neither changed nor dropped during the call.
    #[inline]
    pub unsafe fn call<A, R: ByValue>(&self, arguments: A) -> Result<R, Fault> {
        (self.before_call)();
        // SAFETY: the entry does not use `this`. `library` keeps its code mapped. Its types were compared with those of
        // `F` (invariant of `RemoteFunction`), which are these, and the arguments stay unchanged (`# Safety` of this
        // function).
        unsafe { call_entry(self.call, ptr::null(), &arguments, &self.leases) }
    }
}

impl<F> Clone for RemoteFunction<F> {
    fn clone(&self) -> Self {
        Self {
            leases: self.leases.clone(),
            library: Arc::clone(&self.library),
            ..*self
        }
    }
}

impl<F> fmt::Debug for RemoteFunction<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteFunction").finish_non_exhaustive()
    }
}

unsafe extern "C" fn describe<F: Exported>(
    _: *const (),
    arguments: *const (),
    out: *mut (),
    reply: *const ReplyVtable,
) -> u32 {
    // SAFETY: the host calls this with the arguments of an entry that takes an `IsCalling` and returns bytes.
    unsafe {
        dispatch::<NoValue, IsCalling, Vec<u8>>(
            NoValue::THIS,
            arguments,
            out,
            reply,
            |(), is_calling, _| {
                note_panics_of_calls(is_calling);
                Ok(description(F::NAME, F::describe_function).to_bytes())
            },
        )
    }
}

/// Describes a function.
fn description(name: &str, describe: fn(&mut Signature<'_>) -> TypeIndex) -> Description {
    let mut types = Types::default();
    let root = types.function(name, describe);
    types.finish(name, "", root)
}

impl NoValue {
    /// The address of one.
    pub const THIS: *const () = ptr::from_ref(&Self).cast();
}

impl Deref for NoValue {
    type Target = ();

    #[inline]
    fn deref(&self) -> &() {
        &()
    }
}

impl DispatchTarget for NoValue {
    #[inline]
    fn leases(&self) -> &Leases {
        &None
    }
}
