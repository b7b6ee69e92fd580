//! What is known of generations and refused candidates afterwards.

use std::fs;

use hotswap_core::{Hotswap, Sha256};
use hotswap_fixtures::FixtureRef;

use crate::fixtures::{
    generation, load, load_with, plain_plugin, plugin, refused, trust_with, unloaded,
};

#[test]
fn a_generation_is_known_by_its_bytes_and_its_package() {
    let it = load("constructs_unloadable");
    it.swap(plain_plugin("build_1")).unwrap();
    let with_unloadable = generation(&it, 1);
    let bytes = fs::read(plugin("constructs_unloadable")).unwrap();
    assert_eq!(with_unloadable.file_bytes, bytes.len() as u64);
    assert_eq!(with_unloadable.name.as_deref(), Some("hotswap-fixtures"));
    assert_eq!(
        with_unloadable.version.as_deref(),
        Some(env!("CARGO_PKG_VERSION"))
    );
    let without = generation(&it, 2);
    assert_eq!((without.name, without.version), (None, None));
    // The same file has the same build id, and another one another.
    it.swap(plain_plugin("build_1")).unwrap();
    let again = generation(&it, 3);
    assert_eq!(without.build_id, again.build_id);
    assert!(with_unloadable.build_id.is_none() || with_unloadable.build_id != again.build_id);
}

fn hash_of(name: &str) -> Option<Sha256> {
    Some(Sha256::of(&fs::read(plugin(name)).unwrap()))
}

#[test]
fn a_hash_is_made_when_it_is_asked_for() {
    let it = load_with("build_1", |settings| settings.rollback_copies_max = 1);
    assert_eq!(it.sha256(1), hash_of("build_1"));
    it.swap(plugin("build_2")).unwrap();
    it.swap(plugin("suffix_field")).unwrap();
    unloaded(&it, 2);
    let known = |number| generation(&it, number).sha256;
    assert_eq!(
        [known(1), known(2), known(3)],
        [hash_of("build_1"), None, None]
    );
    // From the copy that is kept for a rollback, and from the live one.
    assert_eq!(it.sha256(2), hash_of("build_2"));
    assert_eq!(it.sha256(3), hash_of("suffix_field"));
    assert_eq!(
        [known(2), known(3)],
        [hash_of("build_2"), hash_of("suffix_field")]
    );
    it.swap(plugin("build_1")).unwrap();
    it.swap(plugin("build_1")).unwrap();
    // It is told although the bytes of 3 are gone; those of 4 are there.
    assert_eq!(it.sha256(3), hash_of("suffix_field"));
    assert_eq!(it.sha256(4), hash_of("build_1"));
    assert_eq!([it.sha256(0), it.sha256(9)], [None, None]);
}

#[test]
fn a_standby_is_hashed_too() {
    let it = load_with("build_1", |settings| {
        settings.probation = Some(std::time::Duration::MAX);
    });
    it.swap(plugin("build_2")).unwrap();
    assert_eq!(it.sha256(1), hash_of("build_1"));
}

#[test]
fn a_hash_is_there_without_asking_if_it_is_recorded_or_pinned() {
    let recorded = load_with("build_1", |settings| {
        settings.record_sha256 = true;
        settings.rollback_copies_max = 0;
    });
    recorded.swap(plugin("build_2")).unwrap();
    unloaded(&recorded, 1);
    let pins = trust_with(|policy| {
        policy.any_owner = true;
        policy.sha256 = vec![hash_of("build_1").unwrap(), hash_of("build_2").unwrap()];
    });
    let pinned: Hotswap<FixtureRef> = Hotswap::load(plugin("build_1"), &pins).unwrap();
    pinned.swap(plugin("build_2")).unwrap();
    for it in [recorded, pinned] {
        let known = [1, 2].map(|number| generation(&it, number).sha256);
        assert_eq!(known, [hash_of("build_1"), hash_of("build_2")]);
    }
}

#[test]
fn refused_candidates_are_kept_with_their_reason_and_forgotten_in_order() {
    let it = load_with("build_1", |settings| settings.limits.refused_max = 2);
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
    let it = load_with("build_1", |settings| settings.limits.ended_max = 2);
    for number in 1..5 {
        it.swap(plugin("build_2")).unwrap();
        unloaded(&it, number);
    }
    let numbers: Vec<_> = it.generations().iter().map(|it| it.number).collect();
    assert_eq!(numbers, [3, 4, 5]);
}
