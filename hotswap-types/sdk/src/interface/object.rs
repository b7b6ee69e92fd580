//! Objects: values that stay on their side, and are used from the other side as a `Box<dyn Trait>`.
//!
//! The sender has an [`OutgoingObject`], which drops the object if the receiver does not take it. The receiver takes it
//! and makes a proxy. When the proxy is dropped, it has the object dropped by its own side. If a plugin sends an object
//! to the host, the host also leases the plugin's generation, which stays mapped until the proxy is dropped.

use std::{cell::Cell, ops::Deref, sync::Arc};

use super::{
    call::{Dispatch, RawRemote, Remote, catch},
    data::{ReadContext, ReadError},
    fault::FaultKind,
};

/// Leases a generation for its objects, whose code stays mapped meanwhile. A host has one for each generation.
pub trait LeaseSource: Send + Sync {
    /// Leases the generation until the result is dropped. `None` if the generation is retired: then the object is not
    /// accepted.
    fn lease(self: Arc<Self>, by: LeasedBy) -> Option<Box<dyn Send + Sync>>;

    /// The number of the generation, once it is published.
    fn generation(&self) -> Option<u64> {
        None
    }
}

/// What leases a generation, because it has code of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeasedBy {
    /// An object of the trait with this name.
    Object(&'static str),
    /// A waker that the host keeps.
    Waker,
}

/// Where objects that come from the other side get their leases. `None` in a plugin: they are the host's, whose code is
/// never unmapped.
pub type Leases = Option<Arc<dyn LeaseSource>>;

/// What the `this` of a vtable's entries points to. It dereferences to the value that has the methods.
pub trait DispatchTarget: Deref {
    /// Where objects that are passed to its methods get their leases.
    fn leases(&self) -> &Leases;

    /// Keeps the value at least until the result is dropped, if it would not be kept otherwise until the plugin's
    /// runtime has ended.
    ///
    /// # Safety
    ///
    /// `this` is the `this` of an entry that is for such a value, which is not dropped yet.
    unsafe fn keep(_this: *const ()) -> Keep {
        None
    }
}

/// What keeps a value.
pub type Keep = Option<Box<dyn Send>>;

/// An object that the other side owns.
///
/// # Invariants
///
/// It lies in an `Arc`. Its address, from [`Arc::into_raw`], is the `this` of its entries; whoever has taken it owns
/// one count. Others belong to calls of async methods that run on the plugin's runtime.
pub struct ExportedObject<I: ?Sized> {
    object: Box<I>,
    leases: Leases,
}

/// An object that is being sent, on the side of the sender. `None` once the receiver has taken it.
///
/// # Invariants
///
/// The pointer is from [`Arc::into_raw`], and one count belongs to this.
pub struct OutgoingObject<I: ?Sized>(Cell<Option<*const ExportedObject<I>>>);

/// The view of an object that is being sent: its [`OutgoingObject`], and the function that takes the object out of it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ObjectView {
    outgoing: *const (),
    take: unsafe extern "C" fn(outgoing: *const ()) -> RawObject,
}

/// An object that the receiver has taken: the parts of its handle, and the function that drops it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RawObject {
    pub(super) remote: RawRemote,
    pub(super) drop: unsafe extern "C" fn(this: *const ()),
}

impl<I: ?Sized> Deref for ExportedObject<I> {
    type Target = I;

    #[inline]
    fn deref(&self) -> &I {
        &self.object
    }
}

impl<I: Send + Sync + ?Sized + 'static> DispatchTarget for ExportedObject<I> {
    #[inline]
    fn leases(&self) -> &Leases {
        &self.leases
    }

    unsafe fn keep(this: *const ()) -> Keep {
        let this = this.cast::<Self>();
        // SAFETY: `this` is from `Arc::into_raw` (invariant), and has a count (`# Safety` of this function).
        unsafe { Arc::increment_strong_count(this) };
        // SAFETY: `this` is from `Arc::into_raw` (invariant), and the count that this takes is the one just added.
        Some(Box::new(unsafe { Arc::from_raw(this) }))
    }
}

impl<I: Dispatch<ExportedObject<I>> + ?Sized + 'static> OutgoingObject<I> {
    /// Begins to send `object`. Objects that the other side passes to its methods get their leases from `leases`.
    pub fn new(object: Box<I>, leases: &Leases) -> Self {
        let exported = Arc::new(ExportedObject {
            object,
            leases: leases.clone(),
        });
        Self(Cell::new(Some(Arc::into_raw(exported))))
    }

    /// The view by which the other side takes it.
    pub fn view(&self) -> ObjectView {
        unsafe extern "C" fn take<I: Dispatch<ExportedObject<I>> + ?Sized>(
            outgoing: *const (),
        ) -> RawObject {
            // SAFETY: `ObjectView::take` passes the address from this view. It does so while the object is being sent,
            // so that the `OutgoingObject` is not dropped, and on the sender's thread, so that the cell is not shared.
            let outgoing = unsafe { &*outgoing.cast::<OutgoingObject<I>>() };
            let this = outgoing.0.take();
            RawObject {
                remote: RawRemote {
                    // Null if it was taken before.
                    this: this.map_or(std::ptr::null(), <*const _>::cast),
                    entries: I::VTABLE.as_ptr(),
                    count: I::VTABLE.len(),
                },
                drop: drop_exported::<I>,
            }
        }

        unsafe extern "C" fn drop_exported<I: ?Sized>(this: *const ()) {
            // SAFETY: `this` is the address that `take` has given away with one count. Its owner, a `Remote`, calls
            // this once, when it is dropped.
            let exported = unsafe { Arc::from_raw(this.cast::<ExportedObject<I>>()) };
            drop_quietly(exported);
        }

        ObjectView {
            outgoing: (&raw const *self).cast(),
            take: take::<I>,
        }
    }
}

impl<I: ?Sized> Drop for OutgoingObject<I> {
    fn drop(&mut self) {
        if let Some(untaken) = self.0.take() {
            // SAFETY: the pointer is from `Arc::into_raw`, and one count belongs to this (invariant of
            // `OutgoingObject`).
            drop_quietly(unsafe { Arc::from_raw(untaken) });
        }
    }
}

/// Drops a value whose destructor nobody waits for. Its panic is dropped too: nobody could handle it. It must not
/// unwind into the other side's code, and two of one vector would end the process.
pub(super) fn drop_quietly<T>(value: T) {
    drop(catch(|| {
        drop(value);
        Ok(())
    }));
}

impl ObjectView {
    /// Takes the object, which from then on belongs to the handle.
    ///
    /// # Errors
    ///
    /// The object's generation is retired. The sender drops the object.
    ///
    /// # Safety
    ///
    /// The view is from [`OutgoingObject::view`] of either side, and this is called on the sender's thread while that
    /// `OutgoingObject` exists. The object's interface is `interface` by the descriptions of both sides.
    pub unsafe fn take(
        self,
        context: ReadContext<'_>,
        interface: &'static str,
    ) -> Result<Remote, ReadError> {
        let lease = match context.leases() {
            None => None,
            Some(leases) => {
                let lease = Arc::clone(leases).lease(LeasedBy::Object(interface));
                Some(lease.ok_or_else(|| ReadError::new(FaultKind::Retired))?)
            }
        };
        // SAFETY: function and address are from one view, whose `OutgoingObject` exists during this call on the
        // sender's thread (`# Safety` of this function).
        let taken = unsafe { (self.take)(self.outgoing) };
        if taken.remote.this.is_null() {
            let what = FaultKind::Unknown("an object that was taken already".to_owned());
            return Err(ReadError::new(what));
        }
        // SAFETY: `taken` has the vtable of the object, which now belongs to the handle; the object is `Send` and
        // `Sync`, as `#[interface]` demands. Its code stays mapped until `lease` is dropped; without a lease it is the
        // host's.
        Ok(unsafe { Remote::object(taken, context.leases().clone(), lease) })
    }
}
