//! Data of many kinds, and interfaces whose two sides have different versions.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    ffi::OsStr,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV6},
    num::NonZero,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use hotswap_core::{
    Hotswap, Stage,
    reasons::{Fault, FaultKind},
};
use hotswap_fixtures::shop::{other, v1, v2, v3};

use crate::fixtures::{plugin, trust};

/// Loads a plugin into a host that has this version of the interface.
macro_rules! shop {
    ($version:ident, $plugin:literal) => {
        Hotswap::<dyn $version::Shop>::load(plugin($plugin), &trust()).unwrap()
    };
}

fn lines(count: usize) -> Vec<v1::Line> {
    let line = |number| v1::Line {
        article: format!("article {number}"),
        price: number,
    };
    (1..).map(line).take(count).collect()
}

fn order(count: usize, note: Option<&str>) -> v1::Order {
    v1::Order {
        id: 7,
        lines: lines(count),
        note: note.map(str::to_owned),
    }
}

#[test]
fn structs_and_enums_are_sent() {
    let shop = shop!(v1, "shop_1");
    let judge = |order| shop.call(|it| it.judge(&order)).unwrap();
    assert_eq!(judge(order(0, None)), Err("order 7 is empty".to_owned()));
    assert_eq!(judge(order(1, None)), Ok(v1::Verdict::Accept));
    let refused = v1::Verdict::Refuse {
        why: "no".to_owned(),
        lines: lines(3),
    };
    assert_eq!(judge(order(3, Some("no"))), Ok(refused));
}

#[test]
fn slices_are_sent() {
    let shop = shop!(v1, "shop_1");
    assert_eq!(shop.with(|it| it.dearest(&lines(3))), lines(3).pop());
    assert_eq!(shop.with(|it| it.dearest(&[])), None);
}

#[test]
fn generic_types_are_sent() {
    let shop = shop!(v1, "shop_1");
    let page = v1::Page {
        total: 2000,
        items: lines(1000),
    };
    assert_eq!(shop.with(|it| it.echo_page(page.clone())), page);
    let numbers = v1::Page {
        total: 3,
        items: vec![1, 2, 3],
    };
    assert_eq!(shop.with(|it| it.count_page(&numbers)), 3);
}

#[test]
fn types_of_the_standard_library_are_sent() {
    let shop = shop!(v1, "shop_1");
    for (before, number) in [(true, None), (false, Some(u128::MAX))] {
        let distance = Duration::from_nanos(1_500_000_001);
        let epoch = SystemTime::UNIX_EPOCH;
        let all = v1::Everything(
            (-1, 2, 0.5, 'ß', before, ()),
            [None, Some(String::new()), Some("text".to_owned())],
            HashMap::from([("a".to_owned(), vec![1, 2]), ("b".to_owned(), Vec::new())]),
            BTreeMap::from([(1, Ok("one".to_owned())), (2, Err(-2))]),
            distance,
            if before {
                epoch - distance
            } else {
                epoch + distance
            },
            Box::new(number),
        );
        assert_eq!(shop.with(|it| it.echo(&all)), all);
    }
}

#[test]
fn paths_addresses_and_other_collections_are_sent() {
    let shop = shop!(v1, "shop_1");
    let not_utf8 = OsStr::from_bytes(b"not \xff UTF-8");
    let scoped = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 9160, 7, 8);
    let places = v1::Places(
        (PathBuf::from("/tmp/ä").join(not_utf8), not_utf8.to_owned()),
        (NonZero::new(7).unwrap(), NonZero::new(-1), isize::MIN),
        (Ipv4Addr::new(192, 0, 2, 1), "2001:db8::1".parse().unwrap()),
        vec![
            "192.0.2.2".parse().unwrap(),
            "::ffff:192.0.2.2".parse().unwrap(),
        ],
        ["192.0.2.3:80".parse().unwrap(), scoped.into()],
        VecDeque::from(["a".to_owned(), "b".to_owned()]),
        HashMap::from_iter([(1, 2), (3, 4)]),
        HashSet::from_iter(['a', 'b']),
    );
    assert_eq!(shop.with(|it| it.echo_places(&places)), places);
    let joined = shop.with(|it| it.join(Path::new("/tmp"), not_utf8));
    assert_eq!(joined, Path::new("/tmp").join(not_utf8));
    let numbers = [NonZero::<u64>::MAX, NonZero::<u64>::MIN];
    assert_eq!(
        shop.with(|it| it.first(&numbers)),
        Some(NonZero::<u64>::MAX)
    );
    assert_eq!(shop.with(|it| it.first(&[])), None);
}

#[test]
fn a_parameter_may_be_an_optional_reference() {
    let shop = shop!(v1, "shop_1");
    let order = order(1, None);
    let both = shop.with(|it| it.note(Some("text"), Some(&order)));
    assert_eq!(both, (Some("text".to_owned()), Some(7)));
    assert_eq!(shop.with(|it| it.note(None, None)), (None, None));
}

fn tree(depth: usize, beside: bool) -> v1::Tree {
    let mut tree = v1::Tree::default();
    for number in 1..depth {
        let inner = std::mem::take(&mut tree);
        tree.number = u32::try_from(number).unwrap();
        match beside {
            true => tree.beside = Some(Box::new(inner)),
            false => tree.below = vec![inner, v1::Tree::default()],
        }
    }
    tree
}

#[test]
fn a_type_within_itself_is_sent() {
    let shop = shop!(v1, "shop_1");
    for beside in [false, true] {
        let deep = tree(128, beside);
        assert_eq!(shop.with(|it| it.echo_tree(deep.clone())), deep);
    }
}

/// It would overflow the stack of the reader.
#[test]
fn what_is_nested_too_deeply_is_a_fault() {
    let shop = shop!(v1, "shop_1");
    for depth in [129, 2000] {
        for beside in [false, true] {
            let deep = tree(depth, beside);
            let fault = shop.call(|it| it.echo_tree(deep)).unwrap_err();
            assert_eq!(fault.kind, FaultKind::TooDeep);
        }
    }
    assert_eq!(shop.call(|it| it.echo_number(1)), Ok(1));
}

/// The newer side reads the default of a field that the older one does not have. The older side ignores the field.
#[test]
fn fields_with_a_default_may_be_added() {
    let line = v2::Line {
        article: "a".to_owned(),
        price: 1,
        discount: 50,
    };
    let order = v2::Order {
        id: 1,
        lines: vec![line.clone()],
        note: None,
    };
    let refused = |why: &str| v2::Verdict::Refuse {
        why: why.to_owned(),
        lines: Vec::new(),
    };
    let shop = shop!(v2, "shop_2");
    assert_eq!(shop.with(|it| it.judge(&order)), Ok(refused("50 %")));
    assert_eq!(shop.with(|it| it.dearest(&order.lines)), Some(line.clone()));
    let shop = shop!(v2, "shop_3");
    assert_eq!(shop.with(|it| it.judge(&order)), Ok(refused("50 %, None")));
    let shop = shop!(v2, "shop_1");
    let known = v2::Line {
        discount: 7,
        ..line
    };
    assert_eq!(shop.with(|it| it.dearest(&order.lines)), Some(known));
    let shop = shop!(v1, "shop_2");
    let refused = v1::Verdict::Refuse {
        why: "7 %".to_owned(),
        lines: Vec::new(),
    };
    assert_eq!(shop.with(|it| it.judge(&self::order(1, None))), Ok(refused));
    let shop = shop!(v1, "shop_3");
    assert_eq!(shop.with(|it| it.dearest(&lines(2))), lines(2).pop());
}

/// If a side receives a variant that it does not know, the call has a fault, unless the enum has an `other` variant.
#[test]
fn variants_may_be_added() {
    let unknown = |fault| {
        let Err(Fault {
            kind: FaultKind::Unknown(what),
            ..
        }) = fault
        else {
            panic!("no fault");
        };
        what
    };
    let shop = shop!(v1, "shop_2");
    let fault = shop.call(|it| it.judge(&order(2, None))).map(drop);
    assert_eq!(unknown(fault), "variant 2 of `Verdict`");
    let shop = shop!(v1, "shop_3");
    let fault = shop.call(|it| it.judge(&order(2, None))).map(drop);
    assert_eq!(unknown(fault), "variant 3 of `Verdict`");
    assert_eq!(
        shop.with(|it| it.echo_shipping(v1::Shipping::Mail)),
        v1::Shipping::Mail
    );
    assert_eq!(
        shop.with(|it| it.echo_shipping(v1::Shipping::Other)),
        v1::Shipping::Other
    );
}

/// The host runs the body of a method that the plugin does not have. The body calls the plugin's methods.
#[test]
fn methods_with_a_body_may_be_added() {
    let versions = |name: &str| {
        let shop: Hotswap<dyn v3::Shop> = Hotswap::load(plugin(name), &trust()).unwrap();
        shop.with(|it| (it.version(), it.version_text()))
    };
    let named = |version| (version, format!("version {version}"));
    assert_eq!(versions("shop_1"), named(1));
    assert_eq!(versions("shop_2"), named(1));
    assert_eq!(versions("shop_3"), named(3));
    assert_eq!(shop!(v2, "shop_1").with(|it| it.version()), 1);
    assert_eq!(shop!(v2, "shop_3").with(|it| it.version()), 3);
}

/// Incompatible types are refused, with the path from the method to the difference.
#[test]
fn other_types_are_refused_with_their_path() {
    let refusal = |result: Result<(), hotswap_core::Error>| {
        let error = result.expect_err("refused");
        assert_eq!(error.stage(), Stage::Layout);
        error.reason()
    };
    let loaded = Hotswap::<dyn v1::Shop>::load(plugin("shop_other"), &trust()).map(drop);
    let expected = "layout: judge.order.lines[].price: expected u64, found u32";
    assert_eq!(refusal(loaded), expected);
    let loaded = Hotswap::<dyn other::Shop>::load(plugin("shop_1"), &trust()).map(drop);
    let expected = "layout: judge.order.lines[].price: expected u32, found u64";
    assert_eq!(refusal(loaded), expected);
}
