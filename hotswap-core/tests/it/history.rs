//! What is known of generations and refused candidates afterwards.

use std::fs;

use hotswap_core::Sha256;

use crate::fixtures::{hashed, load, load_with, plugin, refused, unloaded};

#[test]
fn a_generation_is_known_by_its_bytes_and_its_package() {
    let it = load("constructs_kit");
    it.swap(plugin("build_1")).unwrap();
    let with_kit = hashed(&it, 1);
    let bytes = fs::read(plugin("constructs_kit")).unwrap();
    assert_eq!(with_kit.sha256, Some(Sha256::of(&bytes)));
    assert_eq!(with_kit.file_bytes, bytes.len() as u64);
    assert_eq!(with_kit.name.as_deref(), Some("hotswap-fixtures"));
    assert_eq!(with_kit.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    let without = hashed(&it, 2);
    let bytes = fs::read(plugin("build_1")).unwrap();
    assert_eq!(without.sha256, Some(Sha256::of(&bytes)));
    assert_eq!((without.name, without.version), (None, None));
}

#[test]
fn refused_candidates_are_kept_with_their_reason_and_forgotten_in_order() {
    let it = load_with("build_1", |settings| settings.refused_candidates_max = 2);
    for path in ["/no/1", "/no/2", "/no/3"] {
        refused(&it, path);
    }
    let lines: Vec<_> = it.refused().iter().map(ToString::to_string).collect();
    let expected = ["/no/2", "/no/3"]
        .map(|path| format!("refused {path}: open: no such file; generation 1 stays live"));
    assert_eq!(lines, expected);
}

#[test]
fn generations_that_have_ended_are_forgotten_in_order() {
    let it = load_with("build_1", |settings| settings.ended_generations_max = 2);
    for number in 1..5 {
        it.swap(plugin("build_2")).unwrap();
        unloaded(&it, number);
    }
    let numbers: Vec<_> = it.generations().iter().map(|it| it.number).collect();
    assert_eq!(numbers, [3, 4, 5]);
}
