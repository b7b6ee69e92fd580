//! Named values that outlive the generation that has created them.
//!
//! # Invariants
//!
//! - Only updates assign names, and only one update runs at a time. An update works on a copy of the names;
//!   publishing the update replaces the original by the copy.
//! - A value that is not plain data holds its generation from the moment when the generation is published until the
//!   value is dropped. Before that moment, only the candidate itself has shares of the value.
//! - Types are compared by the host's own descriptions ([`shape`]), never by data in an image that may have been
//!   unloaded.
//! - A value or channel that has lost its name through an update is kept while the generation of the update is on
//!   probation ([`ReplacedValues`]).
//!
//! This module does not know swaps or services, with one exception: the token that wakes a service which waits for a
//! queue.

mod shape;
mod token;

mod queue;

use std::{
    any::Any,
    collections::BTreeMap,
    fmt::{self, Display},
    mem,
    sync::{Arc, OnceLock},
};

use abi_stable::StableAbi;
use hotswap_sdk::{
    Ref,
    host::{ChannelHandle, Handle, Parcel, RawRef, TypeInfo, Values},
};

pub(crate) use self::token::Token;
use self::{queue::Queue, shape::Shape};
use crate::{
    escape::{Escaped, one_line},
    holder::Holder,
    report::report,
    threads,
};

/// Keeps a generation mapped.
pub(crate) type Hold = Box<dyn Any + Send + Sync>;

/// A value or channel that outlives generations.
///
/// Its [`Display`] is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[report]
#[non_exhaustive]
pub struct RefInfo {
    /// The name under which plugins find it.
    pub name: String,
    /// The name of the value's type; for a channel, of the type of the values that pass through it.
    pub type_name: String,
    /// The generation that the value keeps mapped. `None` for plain data, which lies in the host's memory.
    pub generation: Option<u64>,
    /// The size of the value in bytes, without memory that it owns elsewhere. For a channel, the size of one value
    /// that passes through it.
    pub bytes: usize,
    /// How many values wait in the channel; `None` for a value.
    pub waiting: Option<usize>,
}

/// All names, each with its value or channel.
#[derive(Clone, Default)]
pub(crate) struct Names(BTreeMap<String, Entry>);

#[derive(Clone)]
enum Entry {
    Value(Arc<Value>),
    Channel(Arc<Queue>),
}

/// A value that belongs to no generation.
struct Value {
    name: String,
    shape: Shape,
    // Fields are dropped in this order: the value while the hold still keeps its code mapped.
    parcel: Parcel,
    /// Set when the value's generation is published, unless the value is plain data.
    hold: OnceLock<(u64, Hold)>,
}

/// The names as one update changes them.
pub(crate) struct Changes {
    pub(crate) names: Names,
    /// Values that do not hold their generation yet.
    unheld: Vec<Arc<Value>>,
}

/// What an update has replaced. Dropping it may run destructors of plugins, so it must be dropped while no lock is
/// held.
#[must_use = "it must be dropped while no lock is held"]
pub(crate) struct ReplacedValues {
    /// The values and channels that have lost their names.
    names: Names,
    /// The values that the update created. The update may already have replaced one of them again.
    created: Vec<Arc<Value>>,
}

impl Names {
    pub(crate) fn list(&self) -> Vec<RefInfo> {
        self.0
            .iter()
            .map(|(name, entry)| match entry {
                Entry::Value(value) => RefInfo {
                    name: name.clone(),
                    type_name: value.shape.name().to_owned(),
                    generation: value.hold.get().map(|(generation, _)| *generation),
                    bytes: value.parcel.size(),
                    waiting: None,
                },
                Entry::Channel(queue) => RefInfo {
                    name: name.clone(),
                    type_name: queue.element().name().to_owned(),
                    generation: None,
                    bytes: queue.element().size(),
                    waiting: Some(queue.len()),
                },
            })
            .collect()
    }
}

impl Names {
    /// A share of the value with this name, if there is one.
    pub(crate) fn get<T: StableAbi>(&self, name: &str) -> Result<Option<Ref<T>>, String> {
        let found = self.find(name, &TypeInfo::of::<T>())?;
        // SAFETY: `find` has compared the value's type with `T`.
        Ok(found.map(|found| unsafe { found.typed() }))
    }

    fn find(&self, name: &str, asked: &TypeInfo) -> Result<Option<RawRef>, String> {
        let Some(entry) = self.0.get(name) else {
            return Ok(None);
        };
        let asked = shape_of(name, asked)?;
        match entry {
            Entry::Value(value) => match asked.difference(&value.shape) {
                None => Ok(Some(share(value))),
                Some(difference) => Err(format!("ref {name:?}: another type: {difference}")),
            },
            Entry::Channel(queue) => {
                let (asked, found) = (asked.name(), queue.element().name());
                Err(format!(
                    "ref {name:?}: expected a value of the type `{asked}`, found a channel of `{found}`"
                ))
            }
        }
    }
}

impl Changes {
    /// Changes to `names`, in which the entries of `replaced` get their names back.
    pub(crate) fn new(mut names: Names, replaced: Names) -> Self {
        names.0.extend(replaced.0);
        Self {
            names,
            unheld: Vec::new(),
        }
    }

    /// Replaces the current names by the changed ones. Cannot fail.
    pub(crate) fn publish(
        self,
        current: &mut Names,
        generation: u64,
        hold: &dyn Fn(Holder) -> Hold,
    ) -> ReplacedValues {
        for value in &self.unheld {
            let name = value.name.clone();
            let held = (generation, hold(Holder::Ref { name }));
            assert!(value.hold.set(held).is_ok(), "published once");
        }
        let mut names = mem::replace(current, self.names);
        names
            .0
            .retain(|name, entry| !current.0.get(name).is_some_and(|it| it.is_same(entry)));
        ReplacedValues {
            names,
            created: self.unheld,
        }
    }
}

impl ReplacedValues {
    /// The values and channels that have lost their names through the update.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Whether no value or channel has lost its name.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.0.is_empty()
    }

    /// Whether dropping this runs a plugin's code, if nobody else has shares of the values.
    fn may_run_code(&self) -> bool {
        let is_held =
            |entry: &Entry| matches!(entry, Entry::Value(value) if value.hold.get().is_some());
        !self.created.is_empty() || self.names.0.values().any(is_held)
    }
}

/// Drops `replaced` in this order, on a new thread that then ends. Destructors of plugins may use thread-locals, which
/// would otherwise stay on the calling thread and keep those plugins mapped. Returns at once, unless no thread can be
/// started; then the caller runs the destructors itself.
pub(crate) fn drop_elsewhere(replaced: impl IntoIterator<Item = ReplacedValues>) {
    let replaced: Vec<_> = replaced.into_iter().collect();
    if replaced.iter().any(ReplacedValues::may_run_code) {
        // If the thread does not start, the closure is dropped here, and `replaced` with it.
        drop(threads::start("hotswap-values", move || drop(replaced)));
    }
}

impl Entry {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(value), Self::Value(other)) => Arc::ptr_eq(value, other),
            (Self::Channel(queue), Self::Channel(other)) => Arc::ptr_eq(queue, other),
            (Self::Value(_), Self::Channel(_)) | (Self::Channel(_), Self::Value(_)) => false,
        }
    }
}

/// The most values that a channel may hold. Its memory is allocated when it is created.
const CAPACITY_MAX: usize = 1 << 20;

// SAFETY: `find` and `channel` compare shapes before they return a value or a channel, and channels accept only plain
// types.
unsafe impl Values for Changes {
    fn find(&mut self, name: &str, asked: &TypeInfo) -> Result<Option<RawRef>, String> {
        self.names.find(name, asked)
    }

    fn put(&mut self, name: &str, info: &TypeInfo, parcel: Parcel) -> Result<RawRef, String> {
        let shape = shape_of(name, info)?;
        let is_plain = shape.is_plain() && !info.needs_drop;
        let parcel = if is_plain {
            // SAFETY: the shape shows that the value contains nothing that leads into an image, and it has no
            // destructor.
            unsafe { parcel.moved() }
        } else {
            parcel
        };
        let value = Arc::new(Value {
            name: name.to_owned(),
            shape,
            parcel,
            hold: OnceLock::new(),
        });
        if !is_plain {
            self.unheld.push(Arc::clone(&value));
        }
        let shared = share(&value);
        self.names.0.insert(name.to_owned(), Entry::Value(value));
        Ok(shared)
    }

    fn delete(&mut self, name: &str) {
        self.names.0.remove(name);
    }

    fn channel(
        &mut self,
        name: &str,
        asked: &TypeInfo,
        capacity: usize,
    ) -> Result<ChannelHandle, String> {
        let element = shape_of(name, asked)?;
        if !element.is_plain() || asked.needs_drop {
            return Err(format!(
                "ref {name:?}: only plain data goes through a channel, and `{}` is not",
                element.name()
            ));
        }
        match self.names.0.get(name) {
            None if capacity > CAPACITY_MAX => Err(format!(
                "ref {name:?}: expected a channel of at most {CAPACITY_MAX} values, found {capacity}"
            )),
            None => {
                let queue = Arc::new(Queue::new(element, capacity));
                let handle = ChannelHandle::new(Arc::clone(&queue));
                self.names.0.insert(name.to_owned(), Entry::Channel(queue));
                Ok(handle)
            }
            Some(Entry::Channel(queue)) => match element.difference(queue.element()) {
                None => Ok(ChannelHandle::new(Arc::clone(queue))),
                Some(difference) => Err(format!("ref {name:?}: another type: {difference}")),
            },
            Some(Entry::Value(value)) => Err(format!(
                "ref {name:?}: expected a channel of `{}`, found a value of the type `{}`",
                element.name(),
                value.shape.name()
            )),
        }
    }
}

fn shape_of(name: &str, info: &TypeInfo) -> Result<Shape, String> {
    Shape::of(info.layout).map_err(|why| format!("ref {name:?}: {why}"))
}

fn share(value: &Arc<Value>) -> RawRef {
    RawRef::new(&value.parcel, Handle::new(Arc::clone(value)))
}

impl Display for RefInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            type_name,
            generation,
            bytes,
            waiting,
        } = self;
        let (name, type_name) = (Escaped(name), one_line(type_name));
        match (waiting, generation) {
            (Some(waiting), _) => {
                write!(f, "\"{name}\": a channel of {type_name}, {waiting} in it")
            }
            (None, Some(generation)) => write!(
                f,
                "\"{name}\": {type_name}, {bytes} bytes and more, of generation {generation}"
            ),
            (None, None) => write!(f, "\"{name}\": {type_name}, {bytes} bytes"),
        }
    }
}
