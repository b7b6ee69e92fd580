//! Objects: values that stay on their side, and are used from the other one as a `Box<dyn Trait>`.
//!
//! Whoever sends one parks it, so that it is dropped if nobody takes it. Whoever receives one takes it, and has the other
//! side drop it when its proxy is dropped. An object of a plugin that arrives in the host keeps the generation that it is
//! of: the proxy that it came by says how.

use std::{cell::Cell, ops::Deref, ptr::NonNull, sync::Arc};

use super::{
    call::{Dispatch, RawRemote, Remote, catch},
    data::{ReadContext, ReadError},
    fault::Fault,
};

/// What keeps the code of objects where it is. A host has one for each generation.
pub trait LeaseSource: Send + Sync {
    /// Keeps it until what this gives is dropped. None: the generation is retired, and gives no more objects.
    fn lease(self: Arc<Self>, interface: &'static str) -> Option<Box<dyn Send + Sync>>;
}

/// How objects are kept that come by way of some proxy. None: their code never leaves, for it is the host's.
pub type Leases = Option<Arc<dyn LeaseSource>>;

/// What entries are for: it leads to a value.
pub trait DispatchTarget: Deref {
    /// How objects are kept that are passed to this one.
    fn leases(&self) -> &Leases;
}

/// An object that the other side has.
///
/// # Invariants
///
/// `this` of its entries is from `Box::into_raw`, and belongs to whoever has taken it.
pub struct ExportedObject<I: ?Sized> {
    object: Box<I>,
    leases: Leases,
}

/// An object that is being sent.
///
/// # Invariants
///
/// What is there is from `Box::into_raw`, and belongs to this.
pub struct OutgoingObject<I: ?Sized>(Cell<Option<NonNull<ExportedObject<I>>>>);

/// What leads to an object that is being sent.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ObjectView {
    outgoing: *const (),
    take: unsafe extern "C" fn(outgoing: *const ()) -> RawObject,
}

/// An object that was taken.
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

impl<I: ?Sized> DispatchTarget for ExportedObject<I> {
    #[inline]
    fn leases(&self) -> &Leases {
        &self.leases
    }
}

impl<I: Dispatch<ExportedObject<I>> + ?Sized + 'static> OutgoingObject<I> {
    /// Begins to send it, to where objects get their lease from `leases` when they come back.
    pub fn new(object: Box<I>, leases: &Leases) -> Self {
        let exported = Box::new(ExportedObject {
            object,
            leases: leases.clone(),
        });
        Self(Cell::new(Some(NonNull::from(Box::leak(exported)))))
    }

    /// What leads to it.
    pub fn view(&self) -> ObjectView {
        unsafe extern "C" fn take<I: Dispatch<ExportedObject<I>> + ?Sized>(
            outgoing: *const (),
        ) -> RawObject {
            // SAFETY: `ObjectView::take` calls it while the object is being sent, on the same thread.
            let outgoing = unsafe { &*outgoing.cast::<OutgoingObject<I>>() };
            let this = outgoing.0.take();
            RawObject {
                remote: RawRemote {
                    // Taken twice, it leads nowhere.
                    this: this.map_or(std::ptr::null(), |it| it.as_ptr().cast_const().cast()),
                    entries: I::VTABLE.as_ptr(),
                    count: I::VTABLE.len(),
                },
                drop: drop_exported::<I>,
            }
        }

        unsafe extern "C" fn drop_exported<I: ?Sized>(this: *const ()) {
            // SAFETY: the invariants of `ExportedObject`; who has taken it gives it back here, once.
            let exported = unsafe { Box::from_raw(this.cast_mut().cast::<ExportedObject<I>>()) };
            // A panic of a destructor has no caller, and must not go on into the other side's code.
            drop(catch(|| {
                drop(exported);
                Ok(())
            }));
        }

        ObjectView {
            outgoing: (&raw const *self).cast(),
            take: take::<I>,
        }
    }
}

impl<I: ?Sized> Drop for OutgoingObject<I> {
    fn drop(&mut self) {
        if let Some(left) = self.0.take() {
            // SAFETY: the invariants.
            drop(unsafe { Box::from_raw(left.as_ptr()) });
        }
    }
}

impl ObjectView {
    /// Takes the object over.
    ///
    /// # Errors
    ///
    /// The generation that it is of is retired; the other side drops the object.
    ///
    /// # Safety
    ///
    /// The object is being sent, and is one of an interface that both sides agree on.
    pub unsafe fn take(
        self,
        context: ReadContext<'_>,
        interface: &'static str,
    ) -> Result<Remote, ReadError> {
        let lease = match context.leases() {
            None => None,
            Some(leases) => {
                let lease = Arc::clone(leases).lease(interface);
                Some(lease.ok_or_else(|| ReadError::new(Fault::Retired))?)
            }
        };
        // SAFETY: the function is for this object, which is being sent.
        let taken = unsafe { (self.take)(self.outgoing) };
        if taken.remote.this.is_null() {
            let what = Fault::Unknown("an object that was taken already".to_owned());
            return Err(ReadError::new(what));
        }
        // SAFETY: the object is there until it is dropped, and its code as long as it is kept.
        Ok(unsafe { Remote::object(taken, context.leases().clone(), lease) })
    }
}
