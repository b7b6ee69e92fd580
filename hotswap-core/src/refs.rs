//! Named values that outlive the generation that has made them.
//!
//! # Invariants
//!
//! - Names are given only by updates, of which no two are under way at once: an update works on a copy of the
//!   names, and the copy takes the place of the original when the update is published.
//! - A value that is not plain data has a hold on its generation from the moment on at which that is published, until
//!   it is dropped; before that only the candidate itself has shares of it.
//! - A type is compared in words of the host's own ([`shape`]), never by what lies in an image that may have left.
//! - What has lost its name by an update is kept while the generation of the update is on probation ([`Former`]).
//!
//! It knows neither swaps nor services, but for the token by which a service that waits for a queue is woken.

mod shape;
mod token;

mod queue;

use std::{
    any::Any,
    collections::BTreeMap,
    fmt::{self, Display},
    mem,
    sync::{Arc, OnceLock},
    thread,
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
    stage::check_thread,
};

/// Keeps a generation mapped.
pub(crate) type Hold = Box<dyn Any + Send + Sync>;

/// One of the values and channels that outlive generations.
///
/// Its [`Display`] is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[report]
#[non_exhaustive]
pub struct RefInfo {
    /// Its name.
    pub name: String,
    /// The name of its type; of what goes through it, if it is a channel.
    pub type_name: String,
    /// The generation that it keeps mapped; none if it is plain data, in the host's memory.
    pub generation: Option<u64>,
    /// The size of the value, without what it has elsewhere; of one that goes through it, if it is a channel.
    pub bytes: usize,
    /// How many wait in it, if it is a channel.
    pub waiting: Option<usize>,
}

/// Who has which name.
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
    // Dropped in this order: the value while its code is still there.
    parcel: Parcel,
    /// There for one that is not plain, as soon as its generation is published.
    hold: OnceLock<(u64, Hold)>,
}

/// What one update makes of the names.
pub(crate) struct Changes {
    pub(crate) names: Names,
    /// Values that have no hold on their generation yet.
    unheld: Vec<Arc<Value>>,
}

/// What an update has replaced. To drop it may run destructors of plugins, which is for when no lock is held.
#[must_use = "it is to be dropped when no lock is held"]
pub(crate) struct Former {
    /// What has lost its name.
    names: Names,
    /// The update may have given a name to another value again.
    fresh: Vec<Arc<Value>>,
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
    /// A share of the value of this name, if there is one.
    pub(crate) fn get<T: StableAbi>(&self, name: &str) -> Result<Option<Ref<T>>, String> {
        let found = self.find(name, &TypeInfo::of::<T>())?;
        // SAFETY: the types were compared.
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
    /// To `names`, in which those of `replaced` have their names again.
    pub(crate) fn new(mut names: Names, replaced: Names) -> Self {
        names.0.extend(replaced.0);
        Self {
            names,
            unheld: Vec::new(),
        }
    }

    /// Puts the names in the place of the current ones. Nothing in here can fail.
    pub(crate) fn publish(
        self,
        current: &mut Names,
        generation: u64,
        hold: &dyn Fn(Holder) -> Hold,
    ) -> Former {
        for value in &self.unheld {
            let name = value.name.clone();
            let held = (generation, hold(Holder::Ref { name }));
            assert!(value.hold.set(held).is_ok(), "published once");
        }
        let mut names = mem::replace(current, self.names);
        names
            .0
            .retain(|name, entry| !current.0.get(name).is_some_and(|it| it.is(entry)));
        Former {
            names,
            fresh: self.unheld,
        }
    }
}

impl Former {
    /// What has lost its name by the update.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Whether nothing has.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.0.is_empty()
    }

    /// Whether code of a plugin runs when it is dropped, if nobody else has shares of what is in it.
    fn may_run_code(&self) -> bool {
        let is_held =
            |entry: &Entry| matches!(entry, Entry::Value(value) if value.hold.get().is_some());
        !self.fresh.is_empty() || self.names.0.values().any(is_held)
    }
}

/// Drops these, in this order, on a thread that ends with that: the thread-locals of plugins that destructors use would
/// otherwise stay on the calling thread, and keep those plugins. Waits for nothing, unless there can be no thread.
pub(crate) fn drop_elsewhere(formers: impl IntoIterator<Item = Former>) {
    let formers: Vec<_> = formers.into_iter().collect();
    if formers.iter().any(Former::may_run_code) && check_thread().is_ok() {
        let dropping = thread::Builder::new().name("hotswap-values".to_owned());
        // Without a thread they are dropped here, with the closure.
        drop(dropping.spawn(move || drop(formers)));
    }
}

impl Entry {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(value), Self::Value(other)) => Arc::ptr_eq(value, other),
            (Self::Channel(queue), Self::Channel(other)) => Arc::ptr_eq(queue, other),
            (Self::Value(_), Self::Channel(_)) | (Self::Channel(_), Self::Value(_)) => false,
        }
    }
}

/// The room of a channel is made at once.
const CAPACITY_MAX: usize = 1 << 20;

// SAFETY: shapes are compared, and queues are for plain shapes only.
unsafe impl Values for Changes {
    fn find(&mut self, name: &str, asked: &TypeInfo) -> Result<Option<RawRef>, String> {
        self.names.find(name, asked)
    }

    fn put(&mut self, name: &str, info: &TypeInfo, parcel: Parcel) -> Result<RawRef, String> {
        let shape = shape_of(name, info)?;
        let is_plain = shape.is_plain() && !info.needs_drop;
        let parcel = if is_plain {
            // SAFETY: the shape says that nothing in it leads into an image, and there is nothing to drop.
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
