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

mod compare;

mod data;

mod sequences;

mod records;

mod standard;

mod addresses;

mod by_value;

mod call;

mod object;

mod boxed;

mod runtime;

mod waker;

mod future;

mod function;

mod root;

#[cfg(test)]
mod tests;

pub use self::{
    boxed::{BoxFuture, boxed},
    by_value::{ByValue, DataVecView, VecView},
    call::{Cons, Dispatch, Entry, Nil, RawRemote, Remote, ReplySlot, ReplyVtable, dispatch},
    compare::{Difference, compare},
    data::{ByRef, Data, ReadContext, ReadError},
    description::{Description, Field, Methods, Signature, TypeIndex, Types, Variant},
    fault::Fault,
    function::{
        AcceptedFunction, CheckedFunction, Exported, ExportedFunction, Function, FunctionHost,
        NoValue, RemoteFunction,
    },
    future::{AsyncResult, FutureView, OutgoingFuture, ReceivedFuture},
    object::{
        DispatchTarget, ExportedObject, Keep, LeaseSource, LeasedBy, Leases, ObjectView,
        OutgoingObject, RawObject,
    },
    records::{Record, RecordSlice, RecordView, VariantView, WriteFieldsFn, no_fields},
    root::{
        BuiltIn, Described, ImageMemory, Interface, Made, Plugin, PluginRoot, PluginRootRef, Raw,
        Refused, RootValue, Trait, ValueSlot, accept, built_in, end, header, name_of,
    },
    runtime::{Runtime, Task, TaskHandle},
    sequences::{IndirectSlice, SliceView},
    standard::{borrow_optional, describe_optional, view_optional},
};
