//! Interfaces that are traits, and single functions: what [`interface`](macro@crate::interface),
//! [`data`](macro@crate::data), [`plugin`](macro@crate::plugin), [`export`](macro@crate::export) and
//! [`function`](macro@crate::function) expand to.
//!
//! # How a call works
//! The caller's proxy has the address of a value on the other side, and its vtable: one entry for each method of the
//! trait, in order. It calls an entry with the address, an argument list of *views*, and a reply slot. A view is a
//! small `repr(C)` struct: the bytes of the value, or its address and functions of its own side that read it. The
//! receiver copies the value by its view. So neither side frees memory of the other, and no pointer to the other side
//! is kept after the call: the caller's code copies the result into the caller's memory before the entry returns. Only
//! an object ([`object`]) and a future ([`future`]) stay on their side.
//!
//! # Invariants
//! - The types in the trait alone determine the types of the views, which are `repr(C)`. Two sides call each other's
//!   entries only after they have compared the [descriptions](description) of these types.
//! - A view is used only during the call that it was made for. During that call its value is neither changed nor
//!   dropped.
//! - No panic leaves an entry. The caller gets it as a [`Fault`].
//! - A vtable and the functions that it points to are constants of an image.

// From the ground up. (The empty lines keep rustfmt from sorting them.)

mod fault;

mod description;

mod bytes;

mod requirement;

mod compare;

mod refused;

mod data;

mod sequences;

mod records;

mod standard;

mod addresses;

mod by_value;

mod call;

mod object;

mod described;

mod host_services;

mod constructor;

mod boxed;

mod runtime;

mod waker;

mod future;

mod function;

mod root;

mod plugin;

#[cfg(test)]
mod tests;

pub use self::{
    boxed::{BoxFuture, boxed},
    by_value::{ByValue, DataVecView, VecView},
    call::{Cons, Dispatch, Entry, Nil, RawRemote, Remote, ReplySlot, ReplyVtable, dispatch},
    compare::{Difference, compare},
    constructor::{AnyConstructor, Constructor, FromHost, Made, Offered, constructor},
    data::{ByRef, Data, ReadContext, ReadError},
    described::{Described, name_of},
    description::{Description, Field, Methods, Signature, TypeIndex, Types, Variant},
    fault::{Fault, FaultKind},
    function::{
        AcceptedFunction, CheckedFunction, Exported, ExportedFunction, Function, FunctionHost,
        NoValue, RemoteFunction,
    },
    host_services::{HostService, HostServices, LentService},
    object::{
        DispatchTarget, ExportedObject, Keep, LeaseSource, LeasedBy, Leases, ObjectView,
        OutgoingObject, RawObject,
    },
    plugin::{Plugin, ValueSlot, end, header},
    records::{Record, RecordSlice, RecordView, VariantView, WriteFieldsFn, no_fields},
    refused::Refused,
    requirement::Requirement,
    root::{
        BuiltIn, ImageMemory, Interface, Offer, PluginRoot, PluginRootRef, Raw, RootValue, Trait,
        accept, built_in,
    },
    runtime::{Runtime, Task, TaskHandle},
    sequences::{IndirectSlice, SliceView},
    standard::{borrow_optional, describe_optional, view_optional},
};
