//! Descriptions that no macro has written: whatever a plugin says, it is a refusal.

use super::{
    bytes::DAMAGED,
    compare::{Difference, compare, function_text},
    data::Data,
    description::{Description, Field, Method, Parameter, Shape, TypeIndex, Types},
    requirement::{PluginDescription, Requirement},
};

fn field(name: &str, ty: TypeIndex) -> Field {
    Field {
        name: name.to_owned(),
        ty,
        has_default: false,
    }
}

fn description(types: Vec<Shape>) -> Description {
    Description {
        name: "package::Trait".to_owned(),
        version: "1.0.0".to_owned(),
        types,
        root: 0,
    }
}

/// So many structs of one name, each within the one before.
fn chain(length: u32) -> Description {
    let links = (1..length).map(|next| Shape::Struct("Link".to_owned(), vec![field("next", next)]));
    let last = Shape::Struct("Link".to_owned(), vec![field("next", length - 1)]);
    description(links.chain([last]).collect())
}

/// A description with types of every kind.
fn real() -> Description {
    let mut types = Types::default();
    let root = types.interface::<dyn Send>("Trait", |methods| {
        methods.method("method", false, |signature| {
            signature.parameter("first", true, <Vec<(u8, [String; 2])>>::describe);
            signature.parameter("second", false, |types| {
                types.structure::<i64>("Struct", |types| {
                    vec![field("field", bool::describe(types))]
                })
            });
            signature.result(|types| {
                types.enumeration::<i32>("Enum", |types| {
                    let of = Option::<char>::describe(types);
                    vec![("Variant".to_owned(), vec![field("0", of)])]
                })
            })
        });
    });
    types.finish("package::Trait", "1.0.0", root)
}

#[test]
fn a_description_crosses() {
    let bytes = real().to_bytes();
    assert_eq!(Description::from_bytes(&bytes), Ok(real()));
    assert_eq!(compare(&real(), &real()), Ok(()));
}

#[test]
fn a_damaged_description_is_refused_or_looked_at() {
    let bytes = real().to_bytes();
    for length in 0..bytes.len() {
        assert_eq!(
            Description::from_bytes(&bytes[..length]),
            Err(DAMAGED.to_owned())
        );
    }
    for place in 0..bytes.len() {
        for damage in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut bytes = bytes.clone();
            bytes[place] ^= damage;
            if let Ok(read) = Description::from_bytes(&bytes) {
                // Either answer is right. It comes.
                let _ = compare(&real(), &read);
                let _ = compare(&read, &real());
                let _ = function_text(&read);
            }
        }
    }
}

/// Nothing after the number of the format is read.
#[test]
fn a_newer_format_is_named() {
    let mut bytes = real().to_bytes();
    bytes[0] = 3;
    for bytes in [&*bytes, &bytes[..4]] {
        for (error, expected) in [
            (Description::from_bytes(bytes).unwrap_err(), 1),
            (PluginDescription::from_bytes(bytes).unwrap_err(), 2),
        ] {
            assert_eq!(
                error,
                format!(
                    "it was built with a newer hotswap-sdk, whose plugins describe themselves in another format \
                     (expected {expected}, found 3): build it with the host's"
                )
            );
        }
    }
}

#[test]
fn a_count_is_not_believed() {
    // It ends with the number of its types, which are none.
    let mut bytes = description(Vec::new()).to_bytes();
    let count = bytes.len() - 4;
    bytes[count..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Description::from_bytes(&bytes), Err(DAMAGED.to_owned()));
}

/// A type may come again within itself, and many times.
#[test]
fn a_name_has_an_end() {
    let again = Shape::Named("again".to_owned(), vec![0; 1_000]);
    let number = Shape::Named("u32".to_owned(), Vec::new());
    let differ = compare(&description(vec![number]), &description(vec![again])).unwrap_err();
    assert_eq!(differ.expected, "u32");
    assert!(differ.found.starts_with("again<again<"), "{differ}");
    assert!(differ.found.len() < 2_000, "{differ}");
}

/// A function may have many parameters, and each may come again within itself.
#[test]
fn a_shown_function_has_an_end() {
    let again = Shape::Named("Option".to_owned(), vec![1]);
    let parameter = Parameter {
        name: "again".to_owned(),
        ty: 1,
        is_by_ref: true,
    };
    let method = Method {
        name: "function".to_owned(),
        has_default: false,
        parameters: vec![parameter; 1_000],
        result: 1,
    };
    let function = Shape::Interface("function".to_owned(), vec![method]);
    let shown = function_text(&description(vec![function, again])).unwrap();
    assert!(shown.starts_with("fn(again: Option<&Option<"), "{shown}");
    assert!(shown.contains(", …) -> Option<"), "{shown}");
    assert!(shown.len() < 20_000, "{shown}");
    assert_eq!(function_text(&chain(1)), None);
}

/// However deep types lie within each other.
#[test]
fn types_are_compared_without_recursion() {
    const COUNT: u32 = 100_000;
    assert_eq!(compare(&chain(1), &chain(COUNT)), Ok(()));
    let mut other = chain(COUNT);
    let last = usize::try_from(COUNT - 1).unwrap();
    other.types[last] = Shape::Named("u32".to_owned(), Vec::new());
    let Difference {
        path,
        expected,
        found,
    } = compare(&chain(1), &other).unwrap_err();
    assert!(path.starts_with("….next.next."), "{path}");
    assert!(path.len() < 1_000, "{path}");
    assert_eq!((&*expected, &*found), ("Link", "u32"));
}

/// Whoever only sends it may have one more: the other side does not look at it.
#[test]
fn a_field_without_a_default_is_refused_if_its_reader_is_newer() {
    let version = |is_of_host: bool, fields: &[&str]| {
        let fields = fields.iter().map(|name| field(name, 2)).collect();
        let parameter = |ty| Parameter {
            name: "it".to_owned(),
            ty,
            is_by_ref: false,
        };
        let (parameter, result) = if is_of_host {
            (parameter(1), 2)
        } else {
            (parameter(2), 1)
        };
        let method = Method {
            name: "method".to_owned(),
            has_default: false,
            parameters: vec![parameter],
            result,
        };
        description(vec![
            Shape::Interface("Trait".to_owned(), vec![method]),
            Shape::Struct("Data".to_owned(), fields),
            Shape::Named("u32".to_owned(), Vec::new()),
        ])
    };
    let compared = |is_of_host, host: &[&str], plugin: &[&str]| {
        let compared = compare(&version(is_of_host, host), &version(is_of_host, plugin));
        compared.map_err(|it| it.to_string())
    };
    let refused = |text: &str| Err(text.to_owned());
    let (older, newer) = (["a"].as_slice(), ["a", "b"].as_slice());
    assert_eq!(compared(true, newer, older), Ok(()));
    let text = "method.it.b: expected no such field, found u32";
    assert_eq!(compared(true, older, newer), refused(text));
    assert_eq!(compared(false, older, newer), Ok(()));
    let text = "method().b: expected u32, found no such field";
    assert_eq!(compared(false, newer, older), refused(text));
}

/// A plugin that takes something from the host, and one of the format in which none does.
#[test]
fn what_a_plugin_takes_crosses() {
    let requirement = |is_optional| Requirement {
        interface: real(),
        is_optional,
    };
    let taking = PluginDescription {
        interface: real(),
        requirements: vec![requirement(false), requirement(true)],
    };
    assert_eq!(
        PluginDescription::from_bytes(&taking.to_bytes()),
        Ok(taking)
    );
    // In the older format it is the interface alone.
    let mut bytes = real().to_bytes();
    let nothing = PluginDescription {
        interface: real(),
        requirements: Vec::new(),
    };
    assert_eq!(PluginDescription::from_bytes(&bytes), Ok(nothing));
    bytes.push(0);
    assert_eq!(
        PluginDescription::from_bytes(&bytes),
        Err(DAMAGED.to_owned())
    );
}
