//! Callsites of plugins, as the host's `tracing` knows them.
//!
//! `tracing` keeps a callsite for good, and so may each subscriber. So a callsite is made of the host's own memory,
//! which is never given back, and callsites with the same description are one: a plugin that is loaded a thousand times
//! has no more of them than one that is loaded once. What is new in each build (the lines have moved) is new here.
//! Beyond a bound of their number, and of the text of each, one generic callsite stands for all of a level and kind.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher},
    sync::{LazyLock, OnceLock, PoisonError, RwLock},
};

use hotswap_sdk::host::{CallsiteKind, CallsiteView, Interest, Level};
use tracing_core::{
    Kind, LevelFilter, Metadata,
    callsite::{Callsite, DefaultCallsite},
    field::FieldSet,
    identify_callsite, subscriber,
};

/// At most so many callsites of `tracing`, of all plugins of the process. Each takes somewhat less than 1 KiB.
pub(super) const CALLSITES_MAX: usize = 16_384;

/// At most so many callsites of `log`. They have a bound of their own, because the target of a record is any text.
pub(super) const RECORDS_MAX: usize = 4_096;

/// The first fields of a callsite; others are left out. It is what `tracing` itself takes before 0.1.42.
pub(super) const FIELDS_MAX: usize = 32;

/// At most so many bytes of text, in all that describes a callsite. One with more is the generic one: it would be kept
/// for good.
pub(super) const TEXT_BYTES_MAX: usize = 4 * 1024;

/// The names of the fields that are added, and those that they have where the plugin has such a field itself.
const ADDED: [[&str; 2]; 2] = [
    ["plugin", "hotswap.plugin"],
    ["generation", "hotswap.generation"],
];

/// A callsite of one or more plugins.
pub(crate) struct PluginCallsite {
    /// Registered when it is first asked for an interest.
    registered: DefaultCallsite,
    metadata: &'static Metadata<'static>,
    is_generic: bool,
}

/// What `tracing` knows a callsite by.
struct Identity(OnceLock<&'static Metadata<'static>>);

/// All callsites that were made.
struct Callsites {
    callsites_max: usize,
    records_max: usize,
    table: RwLock<Table>,
}

/// The callsites, by the hash of their description.
#[derive(Default)]
struct Table {
    by_hash: HashMap<u64, Vec<&'static PluginCallsite>>,
    callsites: usize,
    records: usize,
}

/// In the order of [`Level`].
pub(super) const LEVELS: [tracing_core::Level; 5] = [
    tracing_core::Level::ERROR,
    tracing_core::Level::WARN,
    tracing_core::Level::INFO,
    tracing_core::Level::DEBUG,
    tracing_core::Level::TRACE,
];

static CALLSITES: LazyLock<Callsites> =
    LazyLock::new(|| Callsites::new(CALLSITES_MAX, RECORDS_MAX));

/// Finds a callsite, or makes it.
pub(super) fn intern(callsite: &CallsiteView<'_>) -> &'static PluginCallsite {
    CALLSITES.intern(callsite)
}

impl Callsites {
    fn new(callsites_max: usize, records_max: usize) -> Self {
        Self {
            callsites_max,
            records_max,
            table: RwLock::default(),
        }
    }

    fn intern(&self, callsite: &CallsiteView<'_>) -> &'static PluginCallsite {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let hash = table.hash(callsite);
        if let Some(known) = table.find(hash, callsite) {
            return known;
        }
        drop(table);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.find(hash, callsite) {
            return known;
        }
        let table = &mut *table;
        let (count, max) = match callsite.kind {
            CallsiteKind::Record => (&mut table.records, self.records_max),
            _ => (&mut table.callsites, self.callsites_max),
        };
        if *count < max && text_bytes(callsite) <= TEXT_BYTES_MAX {
            *count += 1;
            table.add(hash, PluginCallsite::new(callsite, false))
        } else {
            table.generic(callsite)
        }
    }
}

impl Table {
    fn hash(&self, callsite: &CallsiteView<'_>) -> u64 {
        let mut hash = self.by_hash.hasher().build_hasher();
        (
            callsite.name,
            callsite.target,
            callsite.module_path,
            callsite.file,
            callsite.line,
            callsite.level,
            callsite.kind,
        )
            .hash(&mut hash);
        for name in callsite.fields().take(FIELDS_MAX) {
            name.hash(&mut hash);
        }
        hash.finish()
    }

    fn find(&self, hash: u64, callsite: &CallsiteView<'_>) -> Option<&'static PluginCallsite> {
        let found = self.by_hash.get(&hash)?.iter();
        found.copied().find(|known| known.is_described_by(callsite))
    }

    fn add(&mut self, hash: u64, callsite: &'static PluginCallsite) -> &'static PluginCallsite {
        self.by_hash.entry(hash).or_default().push(callsite);
        callsite
    }

    /// The callsite that stands for all of this level and kind. It is one of the table, and is not counted.
    fn generic(&mut self, callsite: &CallsiteView<'_>) -> &'static PluginCallsite {
        let name = match callsite.kind {
            CallsiteKind::Event => "event of a plugin",
            CallsiteKind::Span => "span of a plugin",
            CallsiteKind::Hint => "hint of a plugin",
            CallsiteKind::Record => "log record of a plugin",
        };
        let generic = CallsiteView::generic(name, "hotswap::plugin", callsite.level, callsite.kind);
        let hash = self.hash(&generic);
        self.find(hash, &generic)
            .unwrap_or_else(|| self.add(hash, PluginCallsite::new(&generic, true)))
    }
}

impl PluginCallsite {
    fn new(callsite: &CallsiteView<'_>, is_generic: bool) -> &'static Self {
        let own = callsite.fields().take(FIELDS_MAX);
        let mut names: Vec<&'static str> = own.map(leak).collect();
        for [name, otherwise] in ADDED {
            let is_taken = names.contains(&name);
            names.push(if is_taken { otherwise } else { name });
        }
        let identity: &'static Identity = Box::leak(Box::new(Identity(OnceLock::new())));
        let kind = match callsite.kind {
            CallsiteKind::Span => Kind::SPAN,
            CallsiteKind::Event | CallsiteKind::Record => Kind::EVENT,
            CallsiteKind::Hint => Kind::HINT,
        };
        let metadata: &'static Metadata<'static> = Box::leak(Box::new(Metadata::new(
            leak(callsite.name),
            leak(callsite.target),
            level_of(callsite.level),
            callsite.file.map(leak),
            callsite.line,
            callsite.module_path.map(leak),
            FieldSet::new(names.leak(), identify_callsite!(identity)),
            kind,
        )));
        // It was made just now.
        let _ = identity.0.set(metadata);
        Box::leak(Box::new(Self {
            registered: DefaultCallsite::new(metadata),
            metadata,
            is_generic,
        }))
    }

    pub(super) fn metadata(&self) -> &'static Metadata<'static> {
        self.metadata
    }

    pub(super) fn is_generic(&self) -> bool {
        self.is_generic
    }

    /// How many fields are the plugin's. They come before those that are added.
    pub(super) fn own_fields(&self) -> usize {
        self.metadata.fields().len() - ADDED.len()
    }

    pub(super) fn interest(&'static self) -> Interest {
        let interest: subscriber::Interest = self.registered.interest();
        if interest.is_never() {
            Interest::Never
        } else if interest.is_always() {
            Interest::Always
        } else {
            Interest::Sometimes
        }
    }

    /// Whether a macro of the host's own would go on to ask the subscriber.
    pub(super) fn may_be_enabled(&'static self) -> bool {
        *self.metadata.level() <= LevelFilter::current() && self.interest() != Interest::Never
    }

    fn is_described_by(&self, callsite: &CallsiteView<'_>) -> bool {
        let it = self.metadata;
        let kind = match callsite.kind {
            CallsiteKind::Span => it.is_span(),
            CallsiteKind::Event | CallsiteKind::Record => it.is_event(),
            CallsiteKind::Hint => !it.is_span() && !it.is_event(),
        };
        let fields = it.fields().iter().map(|field| field.name());
        kind && *it.level() == level_of(callsite.level)
            && it.line() == callsite.line
            && it.name() == callsite.name
            && it.target() == callsite.target
            && it.file() == callsite.file
            && it.module_path() == callsite.module_path
            && fields
                .take(self.own_fields())
                .eq(callsite.fields().take(FIELDS_MAX))
    }
}

impl Callsite for Identity {
    fn set_interest(&self, _: subscriber::Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        self.0.get().expect("it is set before anybody has this")
    }
}

fn text_bytes(callsite: &CallsiteView<'_>) -> usize {
    let texts = [
        Some(callsite.name),
        Some(callsite.target),
        callsite.module_path,
        callsite.file,
    ];
    let texts = texts.into_iter().flatten();
    texts
        .chain(callsite.fields().take(FIELDS_MAX))
        .map(str::len)
        .sum()
}

fn leak(text: &str) -> &'static str {
    Box::leak(Box::from(text))
}

fn level_of(level: Level) -> tracing_core::Level {
    LEVELS[level as usize - Level::Error as usize]
}

#[cfg(test)]
mod tests;
