//! An older plugin in a newer host: which differences are harmless.
//!
//! A prefix type (`#[sabi(kind(Prefix))]`) may get new fields at its end. Code that reads such a field first asks at
//! run time whether the creator of the value had it; both sides do so. abi_stable accepts a plugin that has more
//! fields than its host, but refuses one that has fewer, although the host would only find a field absent. So this
//! module filters abi_stable's report: a prefix type that has fewer fields in the plugin is not a difference. Each
//! type is judged separately, so a plugin may have an older module with an inner one that is newer than the host's.
//!
//! # Why this is sound
//! - abi_stable continues after such a difference: it compares the fields that both sides have as always, and
//!   everything that these fields lead to. Everything else that it finds remains a difference (0.11.3: `check_inner`,
//!   `check_fields`).
//! - The fields up to `#[sabi(last_prefix_field)]`, which are read without asking, must be the same on both sides
//!   (`MismatchedPrefixSize`).
//! - After any difference abi_stable skips its last step. That step compares types that are one type on one side and
//!   several on the other, such as two versions of a package in one plugin. [`ambiguous`] checks here that there are
//!   no such types.

use std::collections::{HashMap, HashSet};

use abi_stable::{
    abi_stability::abi_checking::{AbiInstability, AbiInstabilityError},
    std_types::UTypeId,
    type_layout::{TLData, TLFieldOrFunction, TLFields, TLFunction, TypeLayout},
};

/// Returns whether this entry of a report only says that a prefix type has more fields in the host.
pub(super) fn is_growth(entry: &AbiInstabilityError) -> bool {
    if entry.errs.is_empty() {
        // The difference lies deeper, and has an entry of its own.
        return true;
    }
    let Some(step) = entry.stack_trace.last() else {
        return false;
    };
    let (TLFieldOrFunction::Field(host), TLFieldOrFunction::Field(plugin)) =
        (&step.expected, &step.found)
    else {
        return false;
    };
    let (host, plugin) = (host.layout(), plugin.layout());
    let (TLData::PrefixType(more), TLData::PrefixType(less)) = (host.data(), plugin.data()) else {
        return false;
    };
    let counts = (more.fields.len(), less.fields.len());
    counts.0 > counts.1
        // Otherwise the number of phantom fields could be what differs.
        && host.phantom_fields().len() == plugin.phantom_fields().len()
        && entry.errs.iter().all(|error| match error {
            AbiInstability::FieldCountMismatch(it) => (it.expected, it.found) == counts,
            AbiInstability::Size(it) => (it.expected, it.found) == (host.size(), plugin.size()),
            _ => false,
        })
}

/// Finds a type that is one type on one side and several on the other, among the types for which that matters.
/// Returns its name.
pub(super) fn ambiguous(host: &'static TypeLayout, plugin: &'static TypeLayout) -> Option<String> {
    let mut pairs = Pairs::default();
    let mut pending = vec![(host, plugin)];
    while let Some((host, plugin)) = pending.pop() {
        if !pairs
            .seen
            .insert((host.get_utypeid(), plugin.get_utypeid()))
        {
            continue;
        }
        if is_compared_last(host) && !pairs.is_only_pairing(host, plugin) {
            return Some(host.full_type().to_string());
        }
        add_fields(&mut pending, host.phantom_fields(), plugin.phantom_fields());
        if let (Some(host), Some(plugin)) = (fields(host), fields(plugin)) {
            add_fields(&mut pending, host, plugin);
        }
    }
    None
}

type Pair = (&'static TypeLayout, &'static TypeLayout);

/// Pairs of a host's type and the plugin's type in the same place.
#[derive(Default)]
struct Pairs {
    seen: HashSet<(UTypeId, UTypeId)>,
    of_host: HashMap<UTypeId, UTypeId>,
    of_plugin: HashMap<UTypeId, UTypeId>,
}

impl Pairs {
    fn is_only_pairing(&mut self, host: &TypeLayout, plugin: &TypeLayout) -> bool {
        let (host, plugin) = (host.get_utypeid(), plugin.get_utypeid());
        *self.of_host.entry(host).or_insert(plugin) == plugin
            && *self.of_plugin.entry(plugin).or_insert(host) == host
    }
}

fn is_compared_last(layout: &'static TypeLayout) -> bool {
    layout.extra_checks().is_some()
        || match layout.data() {
            TLData::PrefixType(_) => true,
            TLData::Enum(it) => it.exhaustiveness.is_nonexhaustive(),
            _ => false,
        }
}

fn fields(layout: &'static TypeLayout) -> Option<TLFields> {
    match layout.data() {
        TLData::Struct { fields } | TLData::Union { fields } => Some(fields),
        TLData::Enum(it) => Some(it.fields),
        TLData::PrefixType(it) => Some(it.fields),
        TLData::Primitive(_) | TLData::Opaque => None,
    }
}

fn add_fields(pending: &mut Vec<Pair>, host: TLFields, plugin: TLFields) {
    for (host, plugin) in host.iter().zip(plugin.iter()) {
        pending.push((host.layout(), plugin.layout()));
        let functions = host
            .function_range()
            .iter()
            .zip(plugin.function_range().iter());
        for (host, plugin) in functions {
            pending.extend(
                types(&host)
                    .zip(types(&plugin))
                    .map(|(host, plugin)| (host(), plugin())),
            );
        }
    }
}

/// The types of the parameters and of the result.
fn types(function: &TLFunction) -> impl Iterator<Item = extern "C" fn() -> &'static TypeLayout> {
    let parameters = function.param_type_layouts.iter();
    parameters.chain(function.return_type_layout())
}
