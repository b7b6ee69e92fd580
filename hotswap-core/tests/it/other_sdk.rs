//! Plugins that were built with another version of `hotswap-sdk`: each is loaded, or refused by name.

use std::{collections::BTreeMap, path::Path};

use futures_executor::block_on;
use hotswap_core::{Error, Hotswap, reasons::FaultKind};
use hotswap_fixtures::{
    depot::{Depot, Item, Items, Parcel, Receipt},
    other_sdk::{Question, later},
};

use crate::fixtures::{SOON, has_glibc, plugin, trust};

fn load(name: &str) -> Result<Hotswap<dyn Question>, Error> {
    Hotswap::load(plugin(name), &trust())
}

#[test]
fn a_later_sdk_may_have_more_at_its_end() {
    let question = load("sdk_later").unwrap();
    assert_eq!(question.call(|it| it.answer()), Ok(42));
    assert!(question.shutdown(SOON).is_empty());
}

/// The root module of a plugin of today, as a host of a later sdk looks at it.
#[test]
fn an_earlier_sdk_may_have_less_at_its_end() {
    let has_level = |name: &str| {
        let it: Hotswap<later::PluginRootRef> = Hotswap::load(plugin(name), &trust()).unwrap();
        it.with(|root| root.level().is_some())
    };
    assert!(!has_level("rules_1"));
    assert!(has_level("sdk_later"));
}

#[test]
fn any_other_difference_is_a_refusal() {
    for (name, expected) in [
        (
            "sdk_next",
            "version: the interface hotswap-sdk: expected 0.1.x, found 0.2.0",
        ),
        (
            "sdk_shorter",
            "layout: `PluginRoot` lacks the field `create`: expected `describe`, `create`, `log_to`, found `describe`",
        ),
        (
            "sdk_other_entry",
            "layout: field `create`: expected unsafe fn(this,arguments,out,reply: *const () , param_1: *const () , \
             param_2: *mut () , param_3: *const ReplyVtable) -> u32, found unsafe fn(this,arguments,out: *const () , \
             param_1: *const () , param_2: *mut ()) -> u32",
        ),
        (
            "sdk_other_description",
            "layout: it was built with a newer hotswap-sdk, whose plugins describe themselves in another format (expected 2, \
             found 3): build it with the host's",
        ),
    ] {
        let refused = load(name).map(drop).unwrap_err();
        assert_eq!(refused.reason(), expected, "{name}");
    }
}

/// Files that were built with an earlier sdk, and what becomes of each in a host of today: it loads, and all of it
/// works, or it is refused in just these words. Plugins in the field notice what changes here.
const EARLIER: [(&str, Result<(), &str>); 2] = [
    (
        "c4dd250",
        Err(
            "layout: find(): expected impl Future<Output = Option<Item>>, found impl Future<Output = Option<Item>> of an \
             earlier hotswap-sdk",
        ),
    ),
    ("1ffbb07", Ok(())),
];

#[test]
#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")),
    ignore = "the files are for Linux with glibc on x86-64; scripts/earlier-plugin makes others"
)]
fn files_that_were_built_with_an_earlier_sdk() {
    if !has_glibc(36) {
        // They were linked with 2.36.
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/earlier");
    for (commit, expected) in EARLIER {
        let path = folder.join(format!("depot-{commit}-x86_64.so"));
        let loaded = Hotswap::<dyn Depot>::load(&path, &trust());
        match (loaded, expected) {
            (Ok(depot), Ok(())) => all_of_it_works(depot, &path),
            (Err(refused), Err(reason)) => assert_eq!(refused.reason(), reason, "{commit}"),
            (Ok(_), Err(reason)) => panic!("{commit} is loaded, and not refused: {reason}"),
            (Err(refused), Ok(())) => panic!("{commit} is refused: {}", refused.reason()),
        }
    }
}

fn all_of_it_works(depot: Hotswap<dyn Depot>, path: &Path) {
    let item = |name: &str, count| Item {
        name: name.to_owned(),
        count,
    };
    let parcel = Parcel {
        grams: 7,
        to: Some("Ada".to_owned()),
        items: vec![item("tea", 1), item("milk", 2)],
        marks: BTreeMap::from([("fragile".to_owned(), true), ("late".to_owned(), false)]),
    };
    let heavy = Parcel {
        grams: 1001,
        ..parcel.clone()
    };
    let to_nobody = Parcel {
        to: None,
        ..parcel.clone()
    };
    let empty = Parcel {
        items: Vec::new(),
        ..parcel.clone()
    };
    let take = |parcel: &Parcel| depot.call(|it| it.take(parcel));
    assert_eq!(take(&parcel), Ok(Ok(Receipt::Taken { cents: 14 })));
    assert_eq!(take(&heavy), Ok(Ok(Receipt::Returned(heavy.clone()))));
    assert_eq!(take(&to_nobody), Ok(Err("to nobody".to_owned())));
    let fault = take(&empty).unwrap_err();
    let is_its_panic =
        matches!(&fault.kind, FaultKind::Panicked(message) if message.contains("an empty parcel"));
    assert!(is_its_panic, "{fault}");

    assert_eq!(depot.call(|it| it.sum(&[1, 2, 3])), Ok(6));
    let shelf = depot.with(|it| it.shelf());
    assert_eq!(
        (shelf.put(item("tea", 1)), shelf.put(item("tea", 1))),
        (1, 2)
    );
    drop(shelf);
    assert_eq!(depot.call(|it| it.fill(Box::<Items>::default())), Ok(2));
    let find = |name: &str| block_on(depot.call_async(|it| it.find(name.to_owned())));
    assert_eq!(find("tea"), Ok(Some(item("tea", 3))));
    assert_eq!(find("milk"), Ok(None));
    assert_eq!(depot.call(|it| it.version()), Ok(2));

    // It leaves, too.
    depot.swap(path).unwrap();
    assert!(depot.shutdown(SOON).is_empty());
}
