//! Finds the first difference between two types, and describes it in one line.

use std::collections::HashSet;

use super::{Field, Kind, Shape, place};
use crate::layout::both;

/// A comparison in progress.
pub(super) struct Comparison<'a> {
    expected: &'a Shape,
    found: &'a Shape,
    path: Vec<String>,
    /// The pairs that have been compared, or are being compared further out. They count as equal.
    compared: HashSet<(usize, usize)>,
}

impl<'a> Comparison<'a> {
    /// Describes the first difference, if there is one.
    pub(super) fn of(expected: &'a Shape, found: &'a Shape) -> Option<String> {
        let mut comparison = Self {
            expected,
            found,
            path: Vec::new(),
            compared: HashSet::new(),
        };
        comparison.visit(0, 0).err()
    }

    fn visit(&mut self, expected: usize, found: usize) -> Result<(), String> {
        if !self.compared.insert((expected, found)) {
            return Ok(());
        }
        let (expected, found) = (&self.expected.types[expected], &self.found.types[found]);
        if expected.name != found.name {
            return Err(self.at_place(both(&expected.name, &found.name)));
        }
        if expected.package != found.package {
            let packages = both(&expected.package, &found.package);
            return Err(self.at_place(format!(
                "`{}` is from another package: {packages}",
                expected.name
            )));
        }
        match (&expected.kind, &found.kind) {
            (Kind::Primitive, Kind::Primitive) => {}
            (Kind::Array(expected), Kind::Array(found)) => self.visit(*expected, *found)?,
            (Kind::Container(of), Kind::Container(other)) if of.len() == other.len() => {
                for (expected, found) in of.iter().zip(other) {
                    self.visit(*expected, *found)?;
                }
            }
            (Kind::Struct(fields), Kind::Struct(other))
            | (Kind::Union(fields), Kind::Union(other)) => {
                self.fields(&expected.name, fields, other)?;
            }
            (
                Kind::Enum {
                    variants,
                    discriminants,
                },
                Kind::Enum {
                    variants: other,
                    discriminants: other_discriminants,
                },
            ) => {
                let names = |it: &[(String, _)]| list(it.iter().map(|(name, _)| name));
                let same = discriminants == other_discriminants;
                if names(variants) != names(other) || !same {
                    let what = if same {
                        both(names(variants), names(other))
                    } else {
                        both(discriminants, other_discriminants)
                    };
                    return Err(self.at_place(format!(
                        "the variants of `{}` differ: {what}",
                        expected.name
                    )));
                }
                for ((name, fields), (_, other)) in variants.iter().zip(other) {
                    self.path.push(name.clone());
                    self.fields(&expected.name, fields, other)?;
                    self.path.pop();
                }
            }
            _ => return Err(self.at_place(format!("`{}` is of another kind", expected.name))),
        }
        self.check_declared("tag", &expected.name, &expected.tag, &found.tag)?;
        let (checks, other) = (&expected.extra_checks, &found.extra_checks);
        self.check_declared("extra checks", &expected.name, checks, other)?;
        self.fields(&expected.name, &expected.markers, &found.markers)?;
        if expected.repr != found.repr {
            return Err(self.at_place(format!(
                "`{}` is represented in another way: {}",
                expected.name,
                both(&expected.repr, &found.repr)
            )));
        }
        if expected.size != found.size {
            return Err(self.at_place(format!(
                "size in bytes: {}",
                both(expected.size, found.size)
            )));
        }
        if expected.align != found.align {
            return Err(self.at_place(format!(
                "alignment in bytes: {}",
                both(expected.align, found.align)
            )));
        }
        Ok(())
    }

    /// Compares what two types declare about themselves.
    fn check_declared(
        &self,
        what: &str,
        of: &str,
        expected: &Option<String>,
        found: &Option<String>,
    ) -> Result<(), String> {
        if expected == found {
            return Ok(());
        }
        let text = |it: &Option<String>| it.clone().unwrap_or_else(|| "none".to_owned());
        let texts = both(text(expected), text(found));
        Err(self.at_place(format!("the {what} of `{of}`: {texts}")))
    }

    fn fields(&mut self, of: &str, expected: &[Field], found: &[Field]) -> Result<(), String> {
        let names = |fields: &[Field]| list(fields.iter().map(|field| &field.name));
        if names(expected) != names(found) {
            let names = both(names(expected), names(found));
            return Err(self.at_place(format!("the fields of `{of}` differ: {names}")));
        }
        for (expected, found) in expected.iter().zip(found) {
            self.path.push(expected.name.clone());
            self.visit(expected.of, found.of)?;
            self.path.pop();
        }
        Ok(())
    }

    fn at_place(&self, what: String) -> String {
        format!("{}{what}", place(&self.path))
    }
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
