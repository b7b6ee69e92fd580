//! Values that outlive generations.

use std::sync::atomic::Ordering::SeqCst;

use hotswap_core::{ErrorKind, State};
use hotswap_fixtures::services::{Config, Decimal, before};

use super::{Host, until};
use crate::fixtures::{SOON, unloaded};

#[test]
fn plain_data_holds_no_generation() {
    let host = Host::new("before it 7\nnumbers queue");
    assert_eq!(
        host.refs(),
        [
            r#""it": Config, 8 bytes"#,
            r#""queue": a channel of u64, 0 in it"#
        ]
    );
    host.swap("before it 8").unwrap();
    unloaded(host.plugin(), 1);
    let limit = host.plugin().with_ref("it", |it: &before::Config| it.limit);
    assert_eq!(limit, Ok(Some(7)));
}

#[test]
fn a_value_with_code_keeps_its_generation_until_it_is_replaced() {
    let host = Host::new("text it first");
    assert_eq!(
        host.refs()[0],
        r#""it": RString, 32 bytes and more, of generation 1"#
    );
    host.swap("expect it first").unwrap();
    host.swap("expect it first").unwrap();
    unloaded(host.plugin(), 2);
    until(|| {
        let held = &host.plugin().generations()[0].state;
        matches!(held, State::Draining { held_by } if held_by.len() == 1 && held_by[0].to_string() == r#"the value "it""#)
    });

    host.swap("write it second\nexpect it second").unwrap();
    unloaded(host.plugin(), 1);
    unloaded(host.plugin(), 3);
    host.swap("expect it second\ndelete it").unwrap();
    unloaded(host.plugin(), 4);
}

#[test]
fn another_type_is_an_error_that_names_both() {
    let host = Host::new("before it 7\nstart one 1");
    assert_eq!(
        host.refused("now it"),
        "update: ref \"it\": another type: the fields of `Config` differ: expected `limit`, `burst`, found `limit`"
    );
    assert_eq!(
        host.refused("text it x"),
        "update: ref \"it\": another type: expected RString, found Config"
    );
    assert_eq!(
        host.refused("write it x"),
        "update: ref \"it\": another type: expected RString, found Config"
    );
    assert_eq!(
        host.refused("numbers it"),
        "update: ref \"it\": expected a channel of `u64`, found a value of the type `Config`"
    );
    let error = host.plugin().with_ref("it", |it: &Config| it.burst);
    assert_eq!(
        error.unwrap_err().kind().to_string(),
        "ref \"it\": another type: the fields of `Config` differ: expected `limit`, `burst`, found `limit`"
    );
    host.goes_on("one");
}

#[test]
fn a_channel_is_no_value_and_of_one_type() {
    let host = Host::new("numbers it");
    assert_eq!(
        host.refused("before it 1"),
        "update: ref \"it\": expected a value of the type `Config`, found a channel of `u64`"
    );
    assert_eq!(
        host.refused("texts it"),
        "update: ref \"it\": only plain data goes through a channel, and `RString` is not"
    );
    host.swap("delete it\nbefore it 1").unwrap();
}

#[test]
fn a_channel_has_a_largest_capacity() {
    let host = Host::new("numbers small 1048576");
    for capacity in [1_048_577, usize::MAX] {
        assert_eq!(
            host.refused(&format!("numbers large {capacity}")),
            format!(
                "update: ref \"large\": expected a channel of at most 1048576 values, found {capacity}"
            )
        );
    }
}

#[test]
fn a_migration_takes_a_value_to_a_new_type_once() {
    let host = Host::new("before it 7");
    host.swap("migrate it\nmigrate it\nnow it").unwrap();
    let both = |it: &Config| (it.limit, it.burst);
    assert_eq!(host.plugin().with_ref("it", both), Ok(Some((7, 14))));
    // The new type is there already.
    host.swap("migrate it\nnow it").unwrap();
    assert_eq!(host.plugin().with_ref("it", both), Ok(Some((7, 14))));
    assert_eq!(
        host.plugin().with_ref("no such", both),
        Ok(None),
        "and nothing is migrated to it"
    );
}

#[test]
fn a_migration_that_fails_leaves_the_old_value() {
    let host = Host::new("before it 7");
    assert_eq!(
        host.refused("migrate-in-vain it"),
        "update: ref \"it\": migration: 7 is too much"
    );
    assert_eq!(
        host.refused("migrate-other it"),
        "update: ref \"it\": another type: expected Tally, found Config"
    );
    assert_eq!(host.refused("migrate it\nfail later"), "update: later");
    let limit = host.plugin().with_ref("it", |it: &before::Config| it.limit);
    assert_eq!(limit, Ok(Some(7)));
}

#[test]
fn what_could_leave_a_value_with_its_code_is_refused() {
    let host = Host::new("");
    let end = "may lead into the plugin when it has left the value; such a value cannot be kept";
    assert_eq!(
        host.refused("arc it"),
        format!("update: ref \"it\": `RArc` {end}")
    );
    assert_eq!(
        host.refused("str it"),
        format!("update: ref \"it\": field `name`: `RStr` {end}")
    );
    assert_eq!(
        host.refused("function it"),
        format!("update: ref \"it\": field `call`: a function pointer {end}")
    );
    assert!(host.refs().is_empty());
}

#[test]
fn what_owns_its_parts_is_kept() {
    let host = Host::new("tree tree\nmap map\nboxed boxed\nguarded guarded");
    assert_eq!(
        host.refs(),
        [
            r#""boxed": RBox<u64>, 16 bytes and more, of generation 1"#,
            r#""guarded": Guarded, 8 bytes and more, of generation 1"#,
            r#""map": RHashMap<u64, u64>, 24 bytes and more, of generation 1"#,
            r#""tree": Tree, 64 bytes and more, of generation 1"#
        ]
    );
    host.swap("tree tree\nmap map\nboxed boxed\nguarded guarded")
        .unwrap();
    host.swap("delete tree\ndelete map\ndelete boxed\ndelete guarded")
        .unwrap();
    unloaded(host.plugin(), 1);
}

#[test]
fn what_is_in_a_container_counts() {
    let host = Host::new("vec-u64 list\nmap map\nvec-before configs");
    assert_eq!(
        host.refused("vec-text list"),
        "update: ref \"list\": another type: expected RVec<RString>, found RVec<u64>"
    );
    assert_eq!(
        host.refused("map-text map"),
        "update: ref \"map\": another type: expected RHashMap<u64, RString>, found RHashMap<u64, u64>"
    );
    assert_eq!(
        host.refused("vec-now configs"),
        "update: ref \"configs\": another type: the fields of `Config` differ: expected `limit`, `burst`, \
         found `limit`"
    );
    assert_eq!(
        host.refused("vec-str texts"),
        "update: ref \"texts\": `RStr` may lead into the plugin when it has left the value; such a value cannot be \
         kept"
    );
    host.swap("vec-u64 list\nmap map\nvec-before configs")
        .unwrap();
}

#[test]
fn what_a_number_counts_counts() {
    let host = Host::new("hundredths price 1999");
    let expected = "ref \"price\": another type: expected Decimal<10000>, found Decimal<100>";
    assert_eq!(
        host.refused("ten-thousandths price"),
        format!("update: {expected}")
    );
    let raw = |it: &Decimal<10_000>| it.raw;
    let found = host.plugin().with_ref("price", raw);
    let error = found.unwrap_err();
    assert_eq!(error.reason(), format!("layout: {expected}"));
    let start = "cannot use a value with \"";
    assert!(error.to_string().starts_with(start), "{error}");
    let ErrorKind::RefType { name, .. } = error.kind() else {
        panic!("{:?}", error.kind())
    };
    assert_eq!(name, "price");
    host.swap("to-ten-thousandths price\nten-thousandths price")
        .unwrap();
    assert_eq!(host.plugin().with_ref("price", raw), Ok(Some(199_900)));
    assert_eq!(host.refs(), [r#""price": Decimal<10000>, 8 bytes"#]);
}

#[test]
fn how_an_enum_is_represented_counts() {
    let host = Host::new("shape-before it");
    assert_eq!(
        host.refused("shape-now it"),
        "update: ref \"it\": another type: `Shape` is represented in another way: expected C, found Int(U32)"
    );
}

#[test]
fn a_value_is_dropped_once_when_nobody_has_it_any_more() {
    let mut host = Host::new("counted it");
    let dropped = |host: &Host| host.beats("left");
    // What a refused candidate has made goes with it.
    host.refused("counted more\ncount-again it\nfail later");
    assert_eq!(dropped(&host), 2);
    drop(
        host.plugin()
            .prepare(host.files.with("count-again it"))
            .unwrap(),
    );
    assert_eq!(dropped(&host), 3);
    // One that had the name for as long as the update took, and the one before.
    host.swap("count-again it\ncount-again it").unwrap();
    until(|| dropped(&host) == 5);
    unloaded(host.plugin(), 1);
    host.swap("delete it").unwrap();
    until(|| dropped(&host) == 6);
    unloaded(host.plugin(), 2);
    assert_eq!(dropped(&host), 6);
    let mapped = host.plugin.take().unwrap().shutdown(SOON);
    assert!(mapped.is_empty(), "{mapped:?}");
}

#[test]
fn a_share_keeps_a_value_that_has_lost_its_name() {
    let host = Host::new("text it value");
    host.swap("keeps one it").unwrap();
    host.swap("delete it\ntext it another-value").unwrap();
    host.goes_on("one");
    assert_eq!(host.tally("one", |it| it.word.load(SeqCst)), 5);
    until(|| {
        let first = host.plugin().generations().remove(0).state;
        matches!(first, State::Draining { held_by } if held_by.len() == 1)
    });
    host.swap("keeps one it").unwrap();
    until(|| host.tally("one", |it| it.word.load(SeqCst)) == 13);
    unloaded(host.plugin(), 1);
    unloaded(host.plugin(), 2);
}
