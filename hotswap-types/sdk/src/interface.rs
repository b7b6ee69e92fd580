//! An interface that is a trait: what [`interface`](macro@crate::interface), [`data`](macro@crate::data) and
//! [`plugin`](macro@crate::plugin) expand to.
//!
//! # How a call crosses
//! The caller has an address, by which the other side knows its value, and a table of entries, one for each method of the
//! trait, in its order. It calls an entry with the address, the *views* of the arguments, and a place for the answer. A
//! view is a few words that lead to the value on its own side; whoever reads it copies what it needs. So nothing is
//! freed by the other side, and nothing of it stays: the answer of a plugin is made of the host's memory by the host's
//! code, before the entry returns.
//!
//! # Invariants
//! - Every type of a view is `repr(C)`, and follows from the types in the trait alone. Two sides use each other's
//!   entries only after they have compared the [descriptions](description) of those types.
//! - A view is used only while the call lasts that it was made for, in which its value is neither changed nor dropped.
//! - No panic leaves an entry. It becomes a [`Fault`] of the caller.
//! - A table and what it leads to are constants.

// From the ground up. (The empty lines keep rustfmt from sorting them.)

mod fault;

mod description;

mod compare;

mod data;

mod sequences;

mod records;

mod standard;

mod by_value;

mod call;

mod object;

mod root;

pub use self::{
    by_value::ByValue,
    call::{Cons, Dispatch, Entry, Nil, RawRemote, Remote, ReplySlot, ReplyVtable, dispatch},
    compare::{Difference, compare},
    data::{ByRef, Data, ReadContext, ReadError},
    description::{Description, Field, Methods, Signature, TypeIndex, Types, Variant},
    fault::Fault,
    object::{
        DispatchTarget, ExportedObject, LeaseSource, Leases, ObjectView, OutgoingObject, RawObject,
    },
    records::{Record, RecordSlice, RecordView, VariantView, WriteFieldsFn, no_fields},
    root::{
        BuiltIn, Described, Interface, Plugin, PluginRoot, PluginRootRef, Raw, Refused, RootValue,
        Trait, ValueSlot, accept, built_in, header, name_of,
    },
    sequences::{IndirectSlice, SliceView},
};
