//! An older plugin in a newer host: which differences are no harm.
//!
//! A prefix type (`#[sabi(kind(Prefix))]`) is made to grow at its end. Whoever reads a field there asks first, at
//! run time, whether the maker of the value had it; that holds for both sides and in both directions. abi_stable
//! lets a plugin have more fields than its host, and refuses one that has fewer, although nothing could go wrong
//! but that a host finds a field absent. So what it reports is looked through here: a prefix type that has fewer
//! fields in the plugin is no difference. Each type is judged by itself, so that a plugin may have an older
//! module in which an inner one is newer than the host's.
//!
//! # Why this is sound
//! - abi_stable goes on after such a difference: the fields that both have are compared as always, and so is
//!   everything that they lead to. Whatever else it finds stays a difference (0.11.3: `check_inner`, `check_fields`).
//! - The fields up to `#[sabi(last_prefix_field)]`, which are read without asking, must be the same on both sides
//!   (`MismatchedPrefixSize`).
//! - What it leaves out when there was any difference is the last step, which compares types with each other that
//!   are one on one side and several on the other, such as two versions of a package in one plugin. That there are
//!   no such types is looked for here ([`ambiguous`]).

use std::collections::{HashMap, HashSet};

use abi_stable::{
    abi_stability::abi_checking::{AbiInstability, AbiInstabilityError},
    std_types::UTypeId,
    type_layout::{TLData, TLFieldOrFunction, TLFields, TLFunction, TypeLayout},
};

/// Whether all that this entry of a report says is that a prefix type of the host has more fields.
pub(super) fn is_growth(entry: &AbiInstabilityError) -> bool {
    if entry.errs.is_empty() {
        // Something deeper has an entry of its own.
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
        // Else it could be the number of these that differs.
        && host.phantom_fields().len() == plugin.phantom_fields().len()
        && entry.errs.iter().all(|error| match error {
            AbiInstability::FieldCountMismatch(it) => (it.expected, it.found) == counts,
            AbiInstability::Size(it) => (it.expected, it.found) == (host.size(), plugin.size()),
            _ => false,
        })
}

/// A type that is one on one side and several on the other, among those for which that matters.
pub(super) fn ambiguous(host: &'static TypeLayout, plugin: &'static TypeLayout) -> Option<String> {
    let mut pairs = Pairs::default();
    let mut to_do = vec![(host, plugin)];
    while let Some((host, plugin)) = to_do.pop() {
        if !pairs
            .seen
            .insert((host.get_utypeid(), plugin.get_utypeid()))
        {
            continue;
        }
        if is_compared_at_the_end(host) && !pairs.are_the_only_ones(host, plugin) {
            return Some(host.full_type().to_string());
        }
        add_fields(&mut to_do, host.phantom_fields(), plugin.phantom_fields());
        if let (Some(host), Some(plugin)) = (fields(host), fields(plugin)) {
            add_fields(&mut to_do, host, plugin);
        }
    }
    None
}

type Pair = (&'static TypeLayout, &'static TypeLayout);

/// The types that stand for each other.
#[derive(Default)]
struct Pairs {
    seen: HashSet<(UTypeId, UTypeId)>,
    of_host: HashMap<UTypeId, UTypeId>,
    of_plugin: HashMap<UTypeId, UTypeId>,
}

impl Pairs {
    fn are_the_only_ones(&mut self, host: &TypeLayout, plugin: &TypeLayout) -> bool {
        let (host, plugin) = (host.get_utypeid(), plugin.get_utypeid());
        *self.of_host.entry(host).or_insert(plugin) == plugin
            && *self.of_plugin.entry(plugin).or_insert(host) == host
    }
}

fn is_compared_at_the_end(layout: &'static TypeLayout) -> bool {
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

fn add_fields(to_do: &mut Vec<Pair>, host: TLFields, plugin: TLFields) {
    for (host, plugin) in host.iter().zip(plugin.iter()) {
        to_do.push((host.layout(), plugin.layout()));
        let functions = host
            .function_range()
            .iter()
            .zip(plugin.function_range().iter());
        for (host, plugin) in functions {
            to_do.extend(
                types(&host)
                    .zip(types(&plugin))
                    .map(|(host, plugin)| (host(), plugin())),
            );
        }
    }
}

/// Those of the parameters, and of what is returned.
fn types(function: &TLFunction) -> impl Iterator<Item = extern "C" fn() -> &'static TypeLayout> {
    let parameters = function.param_type_layouts.iter();
    parameters.chain(function.return_type_layout())
}
