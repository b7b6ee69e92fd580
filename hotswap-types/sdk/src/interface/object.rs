//! Objects: values that stay on their side, and are used from the other one as a `Box<dyn Trait>`.
//!
//! Whoever sends one parks it, so that it is dropped if nobody takes it. Whoever receives one takes it, and has the other
//! side drop it when its proxy is dropped. An object of a plugin that arrives in the host keeps the generation that it is
//! of: the proxy that it came by says how.

use std::{cell::Cell, ops::Deref, ptr::NonNull, sync::Arc};

use super::{
    call::{RawRemote, Remote, Serve, catch},
    data::{Reader, Unreadable},
    fault::Fault,
};

/// What keeps the code of objects where it is. A host has one for each generation.
pub trait Keep: Send + Sync {
    /// Keeps it until what this gives is dropped. None: the generation is retired, and gives no more objects.
    fn keep(self: Arc<Self>, interface: &'static str) -> Option<Box<dyn Send + Sync>>;
}

/// How objects are kept that come by way of some proxy. None: their code never leaves, for it is the host's.
pub type Keeper = Option<Arc<dyn Keep>>;

/// What entries are for: it leads to a value.
pub trait Servable: Deref {
    /// How objects are kept that are passed to this one.
    fn keeper(&self) -> &Keeper;
}

/// An object that the other side has.
///
/// # Invariants
///
/// `this` of its entries is from `Box::into_raw`, and belongs to whoever has taken it.
pub struct Served<I: ?Sized> {
    object: Box<I>,
    keeper: Keeper,
}

/// An object that is being sent.
///
/// # Invariants
///
/// What is there is from `Box::into_raw`, and belongs to this.
pub struct Offered<I: ?Sized>(Cell<Option<NonNull<Served<I>>>>);

/// What leads to an object that is being sent.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Offer {
    offered: *const (),
    take: unsafe extern "C" fn(offered: *const ()) -> RawObject,
}

/// An object that was taken.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RawObject {
    pub(super) remote: RawRemote,
    pub(super) drop: unsafe extern "C" fn(this: *const ()),
}

impl<I: ?Sized> Deref for Served<I> {
    type Target = I;

    #[inline]
    fn deref(&self) -> &I {
        &self.object
    }
}

impl<I: ?Sized> Servable for Served<I> {
    #[inline]
    fn keeper(&self) -> &Keeper {
        &self.keeper
    }
}

impl<I: Serve<Served<I>> + ?Sized + 'static> Offered<I> {
    /// Begins to send it, to where objects are kept by `keeper` when they come back.
    pub fn new(object: Box<I>, keeper: &Keeper) -> Self {
        let served = Box::new(Served {
            object,
            keeper: keeper.clone(),
        });
        Self(Cell::new(Some(NonNull::from(Box::leak(served)))))
    }

    /// What leads to it.
    pub fn offer(&self) -> Offer {
        unsafe extern "C" fn take<I: Serve<Served<I>> + ?Sized>(offered: *const ()) -> RawObject {
            // SAFETY: `Offer::accept` calls it while the object is being sent, on the same thread.
            let offered = unsafe { &*offered.cast::<Offered<I>>() };
            let this = offered.0.take();
            RawObject {
                remote: RawRemote {
                    // Taken twice, it leads nowhere.
                    this: this.map_or(std::ptr::null(), |it| it.as_ptr().cast_const().cast()),
                    entries: I::ENTRIES.as_ptr(),
                    count: I::ENTRIES.len(),
                },
                drop: drop_served::<I>,
            }
        }

        unsafe extern "C" fn drop_served<I: ?Sized>(this: *const ()) {
            // SAFETY: the invariants of `Served`; who has taken it gives it back here, once.
            let served = unsafe { Box::from_raw(this.cast_mut().cast::<Served<I>>()) };
            // A panic of a destructor has no caller, and must not go on into the other side's code.
            drop(catch(|| {
                drop(served);
                Ok(())
            }));
        }

        Offer {
            offered: (&raw const *self).cast(),
            take: take::<I>,
        }
    }
}

impl<I: ?Sized> Drop for Offered<I> {
    fn drop(&mut self) {
        if let Some(left) = self.0.take() {
            // SAFETY: the invariants.
            drop(unsafe { Box::from_raw(left.as_ptr()) });
        }
    }
}

impl Offer {
    /// Takes the object over.
    ///
    /// # Errors
    ///
    /// The generation that it is of is retired; the other side drops the object.
    ///
    /// # Safety
    ///
    /// The object is being sent, and is one of an interface that both sides agree on.
    pub unsafe fn accept(
        self,
        reader: Reader<'_>,
        interface: &'static str,
    ) -> Result<Remote, Unreadable> {
        let kept = match reader.keeper() {
            None => None,
            Some(keeper) => {
                let kept = Arc::clone(keeper).keep(interface);
                Some(kept.ok_or_else(|| Unreadable::new(Fault::Retired))?)
            }
        };
        // SAFETY: the function is for this object, which is being sent.
        let taken = unsafe { (self.take)(self.offered) };
        if taken.remote.this.is_null() {
            let what = Fault::Unknown("an object that was taken already".to_owned());
            return Err(Unreadable::new(what));
        }
        // SAFETY: the object is there until it is dropped, and its code as long as it is kept.
        Ok(unsafe { Remote::object(taken, reader.keeper().clone(), kept) })
    }
}
