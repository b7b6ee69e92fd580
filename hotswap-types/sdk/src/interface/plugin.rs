//! What a plugin exports: the function that describes it, and the one that makes its value.

use std::{
    any::Any,
    cell::UnsafeCell,
    marker::PhantomData,
    panic::{self, AssertUnwindSafe},
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use abi_stable::{
    library::{CheckTypeLayout, LibHeader, RootModuleResult},
    prefix_type::WithMetadata,
};

use super::{
    call::{Dispatch, Nil, RawRemote, ReplyVtable, dispatch},
    constructor::AnyConstructor,
    data::ReadContext,
    described::{Described, describe},
    fault::Fault,
    function::NoValue,
    requirement::PluginDescription,
    root::{CreateArguments, PluginRoot, PluginRootRef, RootValue},
    runtime::{self, Runtime},
};
use crate::{
    fault::{discard, note_panics_of_calls},
    logs,
};

/// A type that is a plugin; implemented by [`#[plugin]`](macro@crate::plugin).
pub trait Plugin: Sized + 'static {
    /// The interface that it implements.
    type Interface: ?Sized + Described + Dispatch<RootValue<Self>>;

    /// What makes the value.
    fn constructor() -> Box<dyn AnyConstructor<Self>>;

    /// The static that owns the value.
    fn slot() -> &'static ValueSlot<Self>;

    /// The author's own hook, which runs before the value is dropped.
    fn before_unload();

    /// The runtime for async methods, if there is one.
    fn runtime() -> Option<&'static dyn Runtime> {
        None
    }
}

/// The hook of a plugin: if the value was made, runs the author's own, ends the runtime, and drops the value. The host
/// runs it once, when the generation is retired and no call or lease uses it, or when the candidate was refused.
///
/// # Safety
///
/// No call uses the value, and none will.
pub unsafe fn end<P: Plugin>() {
    // SAFETY: the value is made before it is called, and no call uses it, and none will (`# Safety` of this function).
    // So this is the only reference to it.
    let value = unsafe { &mut *P::slot().value.get() };
    if value.is_some() {
        let end = || {
            // A value that is still borrowed is leaked.
            if runtime::end() {
                *value = None;
            }
        };
        // Unwind-safe: the first panic goes on.
        let hook = panic::catch_unwind(P::before_unload);
        let end = panic::catch_unwind(AssertUnwindSafe(end));
        match (hook, end) {
            (Ok(()), Ok(())) => {}
            (Err(payload), Ok(())) | (Ok(()), Err(payload)) => go_on_panicking(payload),
            (Err(payload), Err(second)) => {
                discard(second);
                go_on_panicking(payload);
            }
        }
    }
}

/// Goes on with a panic. Instead of the fault of a service or an object it carries the fault's text, because the code
/// that runs the hook knows no faults.
fn go_on_panicking(payload: Box<dyn Any + Send>) -> ! {
    let payload = payload
        .downcast::<Fault>()
        .map_or_else(|other| other, |fault| Box::new(fault.to_string()));
    panic::resume_unwind(payload)
}

/// A plugin's value, from its construction until the generation is retired. It is a static of the plugin, so that a
/// value without a destructor leaves nothing to do.
///
/// # Invariants
///
/// `value` is written by the call that has set `is_taken`, before anybody else has its address, and by [`end`].
#[derive(Debug)]
pub struct ValueSlot<T> {
    value: UnsafeCell<Option<RootValue<T>>>,
    is_taken: AtomicBool,
}

// SAFETY: the value is shared between threads and dropped on any of them. It is `Send` and `Sync`, because
// `#[interface]` demands both of every implementation. It is written before it is shared (invariant).
unsafe impl<T> Sync for ValueSlot<T> {}

/// What a plugin exports.
pub const fn header<P: Plugin>() -> LibHeader {
    extern "C" fn root_module<P: Plugin>() -> RootModuleResult {
        abi_stable::library::__call_root_module_loader(|| export::<P>())
    }

    // SAFETY: the constructor returns the erased form of a `PluginRootRef`, as `from_constructor` of that type demands.
    unsafe { LibHeader::from_constructor::<PluginRootRef>(root_module::<P>, CheckTypeLayout::Yes) }
}

/// The root module of a plugin.
fn export<P: Plugin>() -> PluginRootRef {
    PluginRootRef(Exported::<P>::ROOT.static_as_prefix())
}

struct Exported<P>(PhantomData<P>);

impl<P: Plugin> Exported<P> {
    const ROOT: &'static WithMetadata<PluginRoot> = &WithMetadata::new(PluginRoot {
        describe: Self::describe,
        create: Self::create,
        log_to: Self::log_to,
    });

    unsafe extern "C" fn describe(
        _: *const (),
        arguments: *const (),
        out: *mut (),
        reply: *const ReplyVtable,
    ) -> u32 {
        // SAFETY: the host calls this with the arguments of an entry that takes none and returns bytes.
        unsafe {
            dispatch::<NoValue, Nil, Vec<u8>>(NoValue::THIS, arguments, out, reply, |(), _, _| {
                let description = PluginDescription {
                    interface: describe::<P::Interface>(),
                    requirements: P::constructor().requirements(),
                };
                Ok(description.to_bytes())
            })
        }
    }

    unsafe extern "C" fn create(
        _: *const (),
        arguments: *const (),
        out: *mut (),
        reply: *const ReplyVtable,
    ) -> u32 {
        let make = |(): &(), arguments: CreateArguments, _: ReadContext<'_>| {
            note_panics_of_calls(arguments.is_calling);
            // SAFETY: the host passes address and length of its configuration, and of as many handles as the
            // description requires, in that order. They stay unchanged during the call.
            let mut offered = unsafe { arguments.offered() };
            // SAFETY: `offered` has what the description of this plugin requires.
            let value = unsafe { P::constructor().construct(&mut offered) };
            Ok(value.and_then(|value| {
                runtime::start(P::runtime())?;
                Ok(P::slot().set::<P>(value))
            }))
        };
        // SAFETY: the host calls this with the arguments of an entry that takes `CreateArguments` and returns a handle.
        unsafe {
            dispatch::<NoValue, CreateArguments, Result<RawRemote, String>>(
                NoValue::THIS,
                arguments,
                out,
                reply,
                make,
            )
        }
    }

    unsafe extern "C" fn log_to(this: *const (), table: *const ()) {
        // SAFETY: the host calls this with the parts of a handle that was made for this image.
        unsafe { logs::connect(this, table) };
    }
}

impl<T> ValueSlot<T> {
    /// An empty slot.
    #[expect(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Self {
        Self {
            value: UnsafeCell::new(None),
            is_taken: AtomicBool::new(false),
        }
    }

    fn set<P: Plugin>(&self, value: T) -> RawRemote
    where
        P::Interface: Dispatch<RootValue<T>>,
    {
        // Relaxed: nothing is read because of it.
        let is_taken = self.is_taken.swap(true, Ordering::Relaxed);
        assert!(!is_taken, "a plugin is made once");
        // SAFETY: only this call has set `is_taken`, so nobody else writes, and nobody has the address yet.
        let slot = unsafe { &mut *self.value.get() };
        let value = ptr::from_ref(slot.insert(RootValue(value)));
        let entries = <P::Interface as Dispatch<RootValue<T>>>::VTABLE;
        RawRemote {
            this: value.cast(),
            entries: entries.as_ptr(),
            count: entries.len(),
        }
    }
}
