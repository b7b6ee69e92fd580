//! Whether two sides mean the same by an interface, of which one may be newer than the other.
//!
//! What may differ follows from who reads: a reader needs each field that has no default, and the variants that are
//! there; a caller needs each method that has no body of its own. Fields, variants and methods are found by their place,
//! so that what is new stands at the end.

use std::{collections::HashSet, fmt};

use super::description::{Description, Field, Shape, TypeIndex};

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

/// Compares what the host has with what the plugin has.
///
/// # Errors
///
/// They do not go together.
pub fn compare(host: &Description, plugin: &Description) -> Result<(), Difference> {
    let mut comparison = Comparison {
        host,
        plugin,
        known: HashSet::new(),
    };
    comparison.types(String::new(), (host.root, plugin.root), Side::Host)
}

struct Comparison<'a> {
    host: &'a Description,
    plugin: &'a Description,
    /// What was compared, or is being compared further up.
    known: HashSet<(Both, Side)>,
}

impl Comparison<'_> {
    /// `reader` is who reads a value of the type, or calls it if it is an interface.
    fn types(&mut self, path: String, both: Both, reader: Side) -> Result<(), Difference> {
        if !self.known.insert((both, reader)) {
            return Ok(());
        }
        let differ = |path| {
            Err(Difference {
                path,
                expected: name_of(self.host, both.0, 0),
                found: name_of(self.plugin, both.1, 0),
            })
        };
        let (Some(expected), Some(found)) = (self.host.get(both.0), self.plugin.get(both.1)) else {
            return differ(path);
        };
        match (expected, found) {
            (Shape::Named(name, expected), Shape::Named(other, found))
                if name == other && expected.len() == found.len() =>
            {
                for (place, both) in expected.iter().zip(found).enumerate() {
                    let path = format!("{path}{}", step(name, place));
                    self.types(path, (*both.0, *both.1), reader)?;
                }
                Ok(())
            }
            (Shape::Struct(name, expected), Shape::Struct(other, found)) if name == other => {
                self.fields(&path, expected, found, reader)
            }
            (Shape::Enum(name, expected), Shape::Enum(other, found)) if name == other => {
                for ((name, expected), (other, found)) in expected.iter().zip(found) {
                    if name != other {
                        return Err(Difference {
                            path,
                            expected: format!("the variant {name}"),
                            found: other.clone(),
                        });
                    }
                    self.fields(&format!("{path}.{name}"), expected, found, reader)?;
                }
                Ok(())
            }
            (Shape::Interface(name, _), Shape::Interface(other, _)) if name == other => {
                self.methods(&path, both, reader)
            }
            _ => differ(path),
        }
    }

    fn fields(
        &mut self,
        path: &str,
        expected: &[Field],
        found: &[Field],
        reader: Side,
    ) -> Result<(), Difference> {
        for place in 0..expected.len().max(found.len()) {
            match (expected.get(place), found.get(place)) {
                (Some(expected), Some(found)) => {
                    if expected.name != found.name {
                        return Err(Difference {
                            path: path.to_owned(),
                            expected: format!("the field {}", expected.name),
                            found: found.name.clone(),
                        });
                    }
                    let path = format!("{path}.{}", expected.name);
                    self.types(path, (expected.ty, found.ty), reader)?;
                }
                (Some(only), None) if reader == Side::Host && !only.has_default => {
                    return Err(Difference {
                        path: format!("{path}.{}", only.name),
                        expected: name_of(self.host, only.ty, 0),
                        found: "no such field".to_owned(),
                    });
                }
                (None, Some(only)) if reader == Side::Plugin && !only.has_default => {
                    return Err(Difference {
                        path: format!("{path}.{}", only.name),
                        expected: "no such field".to_owned(),
                        found: name_of(self.plugin, only.ty, 0),
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn methods(&mut self, path: &str, both: Both, caller: Side) -> Result<(), Difference> {
        let (Some(Shape::Interface(_, expected)), Some(Shape::Interface(_, found))) =
            (self.host.get(both.0), self.plugin.get(both.1))
        else {
            return Ok(());
        };
        let callee = caller.other();
        for place in 0..expected.len().max(found.len()) {
            match (expected.get(place), found.get(place)) {
                (Some(expected), Some(found)) => {
                    let at = method_path(path, &expected.name);
                    if expected.name != found.name {
                        return Err(Difference {
                            path: at,
                            expected: "this method here".to_owned(),
                            found: found.name.clone(),
                        });
                    }
                    if expected.parameters.len() != found.parameters.len() {
                        return Err(Difference {
                            path: at,
                            expected: parameters(expected.parameters.len()),
                            found: found.parameters.len().to_string(),
                        });
                    }
                    for (expected, found) in expected.parameters.iter().zip(&found.parameters) {
                        let path = format!("{at}.{}", expected.name);
                        self.types(path, (expected.ty, found.ty), callee)?;
                    }
                    let result = (expected.result, found.result);
                    self.types(format!("{at}()"), result, caller)?;
                }
                (Some(only), None) if caller == Side::Host && !only.has_default => {
                    return Err(Difference {
                        path: method_path(path, &only.name),
                        expected: "a method".to_owned(),
                        found: "none, and the host has no default body for it".to_owned(),
                    });
                }
                (None, Some(only)) if caller == Side::Plugin && !only.has_default => {
                    return Err(Difference {
                        path: method_path(path, &only.name),
                        expected: "no such method".to_owned(),
                        found: "one without a default body".to_owned(),
                    });
                }
                _ => {}
            }
        }
        Ok(())
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

fn method_path(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
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
        ("Option", _) => "?".to_owned(),
        ("Result", 0) => ".Ok".to_owned(),
        ("Result", _) => ".Err".to_owned(),
        ("HashMap" | "BTreeMap", 0) => "{key}".to_owned(),
        ("HashMap" | "BTreeMap", _) => "{value}".to_owned(),
        ("tuple", place) => format!(".{place}"),
        _ => "[]".to_owned(),
    }
}

/// A type as its author writes it, more or less.
fn name_of(description: &Description, index: TypeIndex, depth: u32) -> String {
    let Some(shape) = description.get(index).filter(|_| depth < 8) else {
        return "…".to_owned();
    };
    match shape {
        Shape::Struct(name, _) | Shape::Enum(name, _) => name.clone(),
        Shape::Interface(name, _) => format!("dyn {name}"),
        Shape::Named(name, arguments) => {
            let names = arguments.iter();
            let names: Vec<_> = names
                .map(|it| name_of(description, *it, depth + 1))
                .collect();
            match (&**name, &*names) {
                ("text", _) => "String".to_owned(),
                ("tuple", names) => format!("({})", names.join(", ")),
                (name, [item]) if name.starts_with("array") => format!("{name} {item}"),
                (name, []) => name.to_owned(),
                (name, names) => format!("{name}<{}>", names.join(", ")),
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
