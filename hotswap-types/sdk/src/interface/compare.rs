//! Whether two sides mean the same by an interface, of which one may be newer than the other.
//!
//! What may differ follows from who reads: a reader needs each field that has no default, and the variants that are
//! there; a caller needs each method that has no body of its own. Fields, variants and methods are found by their
//! place, so that what is new stands at the end.

use std::{collections::HashSet, fmt};

use super::description::{Description, Field, Method, Parameter, Shape, TypeIndex};

/// Where two descriptions differ: the first place that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// From the method on: `judge.order.lines[].price`.
    pub path: String,
    /// What the host has there.
    pub expected: String,
    /// What the plugin has there.
    pub found: String,
}

/// Who is meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Host,
    Plugin,
}

/// A type in both descriptions.
type Both = (TypeIndex, TypeIndex);

/// A type is shown with so many others in it, and each with so many arguments. In a damaged description they may come
/// again.
const NAMES_MAX: u32 = 32;
const ARGUMENTS_MAX: usize = 8;

/// A function is shown with so many parameters.
const PARAMETERS_MAX: usize = 32;

/// A path has so many steps. Only one through a damaged description has more, of which the last are shown.
const STEPS_MAX: usize = 100;

/// Compares what the host has with what the plugin has, of an interface or a function that the host calls.
///
/// # Errors
///
/// They do not go together.
pub fn compare(host: &Description, plugin: &Description) -> Result<(), Difference> {
    compare_for(Side::Host, host, plugin)
}

/// The same of an interface that the plugin calls.
///
/// # Errors
///
/// They do not go together.
pub(super) fn compare_for_plugin(
    host: &Description,
    plugin: &Description,
) -> Result<(), Difference> {
    compare_for(Side::Plugin, host, plugin)
}

fn compare_for(caller: Side, host: &Description, plugin: &Description) -> Result<(), Difference> {
    let mut comparison = Comparison {
        host,
        plugin,
        steps: Vec::new(),
        open: Vec::new(),
    };
    // What was compared, or is being compared.
    let mut known = HashSet::new();
    let both = (host.root, plugin.root);
    comparison.types(None, both, caller);
    while let Some((at, next)) = comparison.open.pop() {
        match next {
            Next::Types(both, reader, are_by_ref) => {
                if known.insert((both, reader)) {
                    let rest = comparison.open.len();
                    comparison.parts(at, both, reader, are_by_ref);
                    // The next is the last.
                    comparison.open[rest..].reverse();
                }
            }
            Next::Difference { expected, found } => {
                return Err(Difference {
                    path: comparison.path(at),
                    expected,
                    found,
                });
            }
        }
    }
    Ok(())
}

/// Goes from type to type without recursion: how deep a damaged description goes is not known.
struct Comparison<'a> {
    host: &'a Description,
    plugin: &'a Description,
    /// Those of all paths, each with the one before it.
    steps: Vec<(At, String)>,
    /// What is still to be looked at.
    open: Vec<(At, Next)>,
}

/// The last step to where something is.
type At = Option<usize>;

enum Next {
    /// The second is who reads a value of the type, or calls it if it is an interface. The third is whether it is a
    /// parameter by reference, on each side.
    Types(Both, Side, (bool, bool)),
    Difference {
        expected: String,
        found: String,
    },
}

impl Comparison<'_> {
    fn step(&mut self, at: At, step: String) -> At {
        self.steps.push((at, step));
        Some(self.steps.len() - 1)
    }

    fn types(&mut self, at: At, both: Both, reader: Side) {
        self.open
            .push((at, Next::Types(both, reader, (false, false))));
    }

    fn parameter(&mut self, at: At, expected: &Parameter, found: &Parameter, reader: Side) {
        let both = (expected.ty, found.ty);
        let are_by_ref = (expected.is_by_ref, found.is_by_ref);
        self.open.push((at, Next::Types(both, reader, are_by_ref)));
    }

    fn differ(&mut self, at: At, expected: impl Into<String>, found: impl Into<String>) {
        let (expected, found) = (expected.into(), found.into());
        self.open.push((at, Next::Difference { expected, found }));
    }

    fn parts(&mut self, at: At, both: Both, reader: Side, are_by_ref: (bool, bool)) {
        let (host, plugin) = (self.host, self.plugin);
        match (host.get(both.0), plugin.get(both.1)) {
            (Some(Shape::Named(name, expected)), Some(Shape::Named(other, found)))
                if name == other && expected.len() == found.len() =>
            {
                for (place, both) in expected.iter().zip(found).enumerate() {
                    let at = self.step(at, step(name, place));
                    self.types(at, (*both.0, *both.1), reader);
                }
            }
            (Some(Shape::Struct(name, expected)), Some(Shape::Struct(other, found)))
                if name == other =>
            {
                self.fields(at, expected, found, reader);
            }
            (Some(Shape::Enum(name, expected)), Some(Shape::Enum(other, found)))
                if name == other =>
            {
                for ((name, expected), (other, found)) in expected.iter().zip(found) {
                    if name != other {
                        self.differ(at, format!("the variant {name}"), other);
                    }
                    let at = self.step(at, format!(".{name}"));
                    self.fields(at, expected, found, reader);
                }
            }
            (Some(Shape::Interface(name, expected)), Some(Shape::Interface(other, found)))
                if name == other =>
            {
                self.methods(at, expected, found, reader);
            }
            _ => {
                let expected = passed_name(host, both.0, are_by_ref.0);
                self.differ(at, expected, passed_name(plugin, both.1, are_by_ref.1));
            }
        }
    }

    fn fields(&mut self, at: At, expected: &[Field], found: &[Field], reader: Side) {
        for place in 0..expected.len().max(found.len()) {
            match (expected.get(place), found.get(place)) {
                (Some(expected), Some(found)) => {
                    if expected.name != found.name {
                        self.differ(at, format!("the field {}", expected.name), &found.name);
                    }
                    let at = self.step(at, format!(".{}", expected.name));
                    self.types(at, (expected.ty, found.ty), reader);
                }
                (Some(only), None) if reader == Side::Host && !only.has_default => {
                    let at = self.step(at, format!(".{}", only.name));
                    self.differ(at, name_of(self.host, only.ty), "no such field");
                }
                (None, Some(only)) if reader == Side::Plugin && !only.has_default => {
                    let at = self.step(at, format!(".{}", only.name));
                    self.differ(at, "no such field", name_of(self.plugin, only.ty));
                }
                _ => {}
            }
        }
    }

    fn methods(&mut self, at: At, expected: &[Method], found: &[Method], caller: Side) {
        let callee = caller.other();
        for place in 0..expected.len().max(found.len()) {
            match (expected.get(place), found.get(place)) {
                (Some(expected), Some(found)) => {
                    let at = self.step(at, format!(".{}", expected.name));
                    if expected.name != found.name {
                        self.differ(at, "this method here", &found.name);
                    }
                    let counts = (expected.parameters.len(), found.parameters.len());
                    if counts.0 != counts.1 {
                        self.differ(at, parameters(counts.0), counts.1.to_string());
                    }
                    for (expected, found) in expected.parameters.iter().zip(&found.parameters) {
                        let named = if expected.has_name() { expected } else { found };
                        let at = self.step(at, format!(".{}", named.name));
                        self.parameter(at, expected, found, callee);
                    }
                    let at = self.step(at, "()".to_owned());
                    self.types(at, (expected.result, found.result), caller);
                }
                (Some(only), None) if caller == Side::Host && !only.has_default => {
                    let at = self.step(at, format!(".{}", only.name));
                    let none = "none, and the host has no default body for it";
                    self.differ(at, "a method", none);
                }
                (None, Some(only)) if caller == Side::Plugin && !only.has_default => {
                    let at = self.step(at, format!(".{}", only.name));
                    self.differ(at, "no such method", "one without a default body");
                }
                _ => {}
            }
        }
    }

    /// The steps that lead there.
    fn path(&self, at: At) -> String {
        let back = std::iter::successors(at, |at| self.steps[*at].0);
        let mut steps: Vec<_> = back.take(STEPS_MAX).map(|at| &*self.steps[at].1).collect();
        if steps.len() == STEPS_MAX {
            steps.push("…");
        }
        steps.reverse();
        steps.concat().trim_start_matches('.').to_owned()
    }
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Host => Self::Plugin,
            Self::Plugin => Self::Host,
        }
    }
}

fn parameters(count: usize) -> String {
    match count {
        1 => "1 parameter".to_owned(),
        count => format!("{count} parameters"),
    }
}

/// From a type to one of its arguments.
fn step(name: &str, place: usize) -> String {
    match (name, place) {
        ("Box" | "AsyncResult", _) => String::new(),
        ("Option", _) => "?".to_owned(),
        ("Result", 0) => ".Ok".to_owned(),
        ("Result", _) => ".Err".to_owned(),
        ("HashMap" | "BTreeMap", 0) => "{key}".to_owned(),
        ("HashMap" | "BTreeMap", _) => "{value}".to_owned(),
        ("tuple", place) => format!(".{place}"),
        _ => "[]".to_owned(),
    }
}

/// A function as its author writes it, more or less: `fn(name: &str) -> String`. `None` if the description is not of a
/// function.
pub(super) fn function_text(description: &Description) -> Option<String> {
    let Some(Shape::Interface(_, methods)) = description.get(description.root) else {
        return None;
    };
    let [method] = &**methods else {
        return None;
    };
    let parameters = method.parameters.iter().take(PARAMETERS_MAX);
    let mut parameters: Vec<_> = parameters
        .map(|it| {
            let ty = passed_name(description, it.ty, it.is_by_ref);
            if it.has_name() {
                format!("{}: {ty}", it.name)
            } else {
                ty
            }
        })
        .collect();
    if method.parameters.len() > PARAMETERS_MAX {
        parameters.push("…".to_owned());
    }
    let result = match &*name_of(description, method.result) {
        "()" => String::new(),
        result => format!(" -> {result}"),
    };
    Some(format!("fn({}){result}", parameters.join(", ")))
}

/// The type of a parameter as its author writes it, more or less.
fn passed_name(description: &Description, index: TypeIndex, is_by_ref: bool) -> String {
    match description.get(index) {
        _ if !is_by_ref => name_of(description, index),
        Some(Shape::Named(name, arguments)) if name == "Option" && arguments.len() == 1 => {
            format!("Option<{}>", reference_name(description, arguments[0]))
        }
        _ => reference_name(description, index),
    }
}

fn reference_name(description: &Description, index: TypeIndex) -> String {
    if let Some(Shape::Named(name, arguments)) = description.get(index) {
        match (&**name, &**arguments) {
            ("text", []) => return "&str".to_owned(),
            ("Vec", [item]) => return format!("&[{}]", name_of(description, *item)),
            _ => {}
        }
    }
    format!("&{}", name_of(description, index))
}

/// A type as its author writes it, more or less.
fn name_of(description: &Description, index: TypeIndex) -> String {
    let mut left = NAMES_MAX;
    name_within(description, index, &mut left)
}

fn name_within(description: &Description, index: TypeIndex, left: &mut u32) -> String {
    let Some(shape) = description.get(index).filter(|_| *left > 0) else {
        return "…".to_owned();
    };
    *left -= 1;
    match shape {
        Shape::Struct(name, _) | Shape::Enum(name, _) => name.clone(),
        Shape::Interface(name, _) => format!("Box<dyn {name}>"),
        Shape::Named(name, arguments) => {
            let names = arguments.iter().take(ARGUMENTS_MAX);
            let names: Vec<_> = names
                .map(|it| name_within(description, *it, left))
                .collect();
            match (&**name, &*names) {
                ("text", _) => "String".to_owned(),
                ("tuple", [item]) => format!("({item},)"),
                ("tuple", names) => format!("({})", names.join(", ")),
                ("AsyncResult", [result]) => format!("impl Future<Output = {result}>"),
                // As it was called when its results crossed in another way.
                ("Future", [result]) => {
                    format!("impl Future<Output = {result}> of an earlier hotswap-sdk")
                }
                (name, names) => match (name.strip_prefix("array of "), names) {
                    (Some(count), [item]) => format!("[{item}; {count}]"),
                    (_, []) => name.to_owned(),
                    (_, names) => format!("{name}<{}>", names.join(", ")),
                },
            }
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            expected,
            found,
        } = self;
        match &**path {
            "" => write!(f, "expected {expected}, found {found}"),
            path => write!(f, "{path}: expected {expected}, found {found}"),
        }
    }
}
