//! Describes a type, or the difference between two types, in one line.
//!
//! abi_stable's own report of one difference has 200 to 300 lines, and no single line says what is useful. The line
//! built here says which field differs, what the host expects there, and what the plugin has.

use abi_stable::{
    abi_stability::abi_checking::{
        AbiInstability, AbiInstabilityError, AbiInstabilityErrors, ExpectedFound,
    },
    type_layout::{TLData, TLFieldOrFunction, TypeLayout},
};

/// A difference of another kind is printed in abi_stable's `Debug` form, cut to this length.
const LENGTH_MAX: usize = 300;

/// Describes the first difference that is not `harmless`, and counts the others. `None` if all are harmless.
pub(super) fn summary(
    errors: &AbiInstabilityErrors,
    harmless: impl Fn(&AbiInstabilityError) -> bool,
) -> Option<String> {
    let places = errors.errors.iter().filter(|error| !harmless(error));
    let mut places: Vec<&AbiInstabilityError> = places.collect();
    // If a type differs in size, something in it differs too; that difference says more.
    if !places.iter().all(|error| is_size(error)) {
        places.retain(|error| !is_size(error));
    }
    let first = places.first()?;
    let names = first.stack_trace.iter().map_while(field_name);
    let text = format!("{}{}", place(names), difference(errors, first));
    Some(match places.len() - 1 {
        0 => text,
        1 => format!("{text} (and 1 more place)"),
        more => format!("{text} (and {more} more places)"),
    })
}

fn is_size(error: &AbiInstabilityError) -> bool {
    let of_size =
        |it: &AbiInstability| matches!(it, AbiInstability::Size(_) | AbiInstability::Alignment(_));
    error.errs.iter().all(of_size)
}

/// Names a field from the outermost type down: `` field `a.b`: ``. Returns an empty text for the outermost type
/// itself. abi_stable names the target of a pointer or the content of a newtype `0`, which means nothing to a reader,
/// so it is left out.
pub(crate) fn place<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names
        .filter(|name| *name != "0")
        .map(|name| name.strip_prefix("field_").unwrap_or(name))
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("field `{}`: ", names.join("."))
    }
}

/// The name of the field that this step leads to. Functions have no field name.
fn field_name(step: &ExpectedFound<TLFieldOrFunction>) -> Option<&'static str> {
    match &step.expected {
        TLFieldOrFunction::Field(field) => Some(field.name()),
        TLFieldOrFunction::Function(_) => None,
    }
}

fn difference(errors: &AbiInstabilityErrors, error: &AbiInstabilityError) -> String {
    let innermost = error.stack_trace.last();
    let function = error
        .stack_trace
        .iter()
        .find_map(|step| match (&step.expected, &step.found) {
            (TLFieldOrFunction::Function(expected), TLFieldOrFunction::Function(found)) => {
                let signatures = [expected, found].map(|it| signature(&it.to_string()));
                // The signatures are equal when the difference lies in one of their types.
                (signatures[0] != signatures[1]).then(|| both(&signatures[0], &signatures[1]))
            }
            _ => None,
        });
    let (expected, found) = match innermost.map(|step| (&step.expected, &step.found)) {
        Some((TLFieldOrFunction::Field(expected), TLFieldOrFunction::Field(found))) => {
            (expected.layout(), found.layout())
        }
        _ => (errors.interface, errors.implementation),
    };
    function
        .or_else(|| fields(expected, found))
        .unwrap_or_else(|| describe_instability(decisive(&error.errs)))
}

/// The error that explains the difference. A size differs only because something else does.
fn decisive(errors: &[AbiInstability]) -> &AbiInstability {
    let other = |error: &&AbiInstability| {
        !matches!(
            error,
            AbiInstability::Size(_)
                | AbiInstability::Alignment(_)
                | AbiInstability::FieldCountMismatch(_)
        )
    };
    errors.iter().find(other).unwrap_or(&errors[0])
}

/// Describes fields that are missing, additional, or in another order.
fn fields(expected: &TypeLayout, found: &TypeLayout) -> Option<String> {
    let (host, plugin) = (field_names(expected), field_names(found));
    if let TLData::PrefixType(prefix) = expected.data()
        && plugin.len() >= prefix.first_suffix_field.into()
        && (host.starts_with(&plugin) || plugin.starts_with(&host))
    {
        // One side of a prefix type may have more fields.
        return None;
    }
    if let Some(missing) = host.iter().find(|name| !plugin.contains(name)) {
        let of = expected.name();
        return Some(format!(
            "`{of}` lacks the field `{missing}`: {}",
            both(list(&host), list(&plugin))
        ));
    }
    let of = expected.name();
    let what = if plugin.starts_with(&host) {
        let more = plugin.get(host.len())?;
        format!("`{of}` has a field `{more}` more")
    } else {
        format!("the fields of `{of}` are ordered differently")
    };
    Some(format!("{what}: {}", both(list(&host), list(&plugin))))
}

fn field_names(layout: &TypeLayout) -> Vec<&'static str> {
    match layout.data() {
        TLData::Struct { fields } | TLData::Union { fields } => {
            fields.iter().map(|it| it.name()).collect()
        }
        TLData::PrefixType(prefix) => prefix.fields.iter().map(|it| it.name()).collect(),
        _ => Vec::new(),
    }
}

/// The type's name. For a type with a single unnamed field, such as a function, also the type of that field.
pub(super) fn describe(layout: &'static TypeLayout) -> String {
    let name = type_name(layout);
    let TLData::Struct { fields } = layout.data() else {
        return name;
    };
    match &fields.to_vec()[..] {
        [only] if only.name() == "field_0" => match only.function_range().iter().next() {
            Some(function) if only.is_function() => {
                format!("{name}({})", signature(&function.to_string()))
            }
            _ => format!("{name}({})", type_name(only.layout())),
        },
        _ => name,
    }
}

fn describe_instability(error: &AbiInstability) -> String {
    match error {
        AbiInstability::Name(types) => both(types.expected, types.found),
        AbiInstability::Package(packages) => {
            format!(
                "from another package: {}",
                both(packages.expected, packages.found)
            )
        }
        AbiInstability::PackageVersion(versions) => {
            format!(
                "from another version of its package: {}",
                both(versions.expected, versions.found)
            )
        }
        AbiInstability::Size(bytes) => {
            format!("size in bytes: {}", both(bytes.expected, bytes.found))
        }
        AbiInstability::Alignment(bytes) => {
            format!("alignment in bytes: {}", both(bytes.expected, bytes.found))
        }
        AbiInstability::MismatchedPrefixSize(fields) => {
            format!(
                "fields that are always there: {}",
                both(fields.expected, fields.found)
            )
        }
        other => {
            let text = format!("{other:?}");
            text[..text.floor_char_boundary(LENGTH_MAX)].to_owned()
        }
    }
}

/// *Expected* is what the asking code declares; *found* is what is there.
pub(crate) fn both(expected: impl std::fmt::Display, found: impl std::fmt::Display) -> String {
    format!("expected {expected}, found {found}")
}

/// The type's name with single spaces; abi_stable writes `&'a  u8 `.
fn type_name(layout: &TypeLayout) -> String {
    let name = layout.full_type().to_string();
    let words: Vec<&str> = name.split_whitespace().collect();
    words.join(" ")
}

/// Makes abi_stable's form of a signature readable. abi_stable writes `fn(name,: u8, ,: u8)->u8`: a comma after each
/// name even if there is no name, spaces after lifetimes, and the lifetimes as numbers in a line of their own.
fn signature(text: &str) -> String {
    let text = text.lines().next().unwrap_or_default();
    let text = text.replace("(,: ", "(").replace(", ,: ", ", ");
    let text = text.replace(",: ", ": ").replace("->", " -> ");
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace(" )", ")")
}

fn list(names: &[&str]) -> String {
    format!("`{}`", names.join("`, `"))
}
