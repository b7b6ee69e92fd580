//! Plugins of an older and of a newer version of the host's interface.

use abi_stable::{library::RootModule, prefix_type::WithMetadata};
use hotswap_core::{Generation, Hotswap, Result};
use hotswap_fixtures::evolution::{v1, v2, v3};

use crate::fixtures::{plugin, trust};

/// What a host finds: what the shop and its stock have, and what the plugin makes of a stock of the host's.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    opens_at: Option<u32>,
    closes_at: Option<u32>,
    stock: [Option<u32>; 3],
    counted: u32,
}

fn load<M: RootModule + Send + Sync>(
    name: &str,
    look: impl Fn(&M) -> Found,
) -> Result<Found, String> {
    let loaded = Hotswap::load(plugin(name), &trust());
    let shop: Hotswap<M> = loaded.map_err(|error| error.reason())?;
    let mut found = None;
    shop.with(|it: &Generation<M>| found = Some(look(it)));
    Ok(found.expect("looked"))
}

fn in_host_1(name: &str) -> Result<Found, String> {
    const STOCK: &WithMetadata<v1::Stock> = &WithMetadata::new(v1::Stock { apples: 10 });
    load(name, |shop: &v1::ShopRef| Found {
        opens_at: None,
        closes_at: None,
        stock: [Some(shop.stock().apples()), None, None],
        counted: shop.count()(v1::StockRef(STOCK.static_as_prefix())),
    })
}

fn in_host_2(name: &str) -> Result<Found, String> {
    const STOCK: &WithMetadata<v2::Stock> = &WithMetadata::new(v2::Stock {
        apples: 10,
        pears: 20,
    });
    load(name, |shop: &v2::ShopRef| Found {
        opens_at: shop.opens_at(),
        closes_at: None,
        stock: [Some(shop.stock().apples()), shop.stock().pears(), None],
        counted: shop.count()(v2::StockRef(STOCK.static_as_prefix())),
    })
}

fn in_host_3(name: &str) -> Result<Found, String> {
    const STOCK: &WithMetadata<v3::Stock> = &WithMetadata::new(v3::Stock {
        apples: 10,
        pears: 20,
        plums: 30,
    });
    load(name, |shop: &v3::ShopRef| Found {
        opens_at: shop.opens_at(),
        closes_at: shop.closes_at().map(|closes_at| closes_at(1)),
        stock: [
            Some(shop.stock().apples()),
            shop.stock().pears(),
            shop.stock().plums(),
        ],
        counted: shop.count()(v3::StockRef(STOCK.static_as_prefix())),
    })
}

/// What is there is what both know; what a plugin finds absent in the host's stock counts 100 and 200.
#[test]
fn every_version_of_a_plugin_loads_into_every_version_of_a_host() {
    let found = |opens_at, closes_at, stock, counted| {
        Ok(Found {
            opens_at,
            closes_at,
            stock,
            counted,
        })
    };
    let stock = |pears, plums| [Some(1), pears, plums];
    let table = [
        (
            "evolution_1",
            in_host_1("evolution_1"),
            found(None, None, stock(None, None), 10),
        ),
        (
            "evolution_2",
            in_host_1("evolution_2"),
            found(None, None, stock(None, None), 110),
        ),
        (
            "evolution_3",
            in_host_1("evolution_3"),
            found(None, None, stock(None, None), 310),
        ),
        (
            "evolution_1",
            in_host_2("evolution_1"),
            found(None, None, stock(None, None), 10),
        ),
        (
            "evolution_2",
            in_host_2("evolution_2"),
            found(Some(8), None, stock(Some(2), None), 30),
        ),
        (
            "evolution_3",
            in_host_2("evolution_3"),
            found(Some(9), None, stock(Some(2), None), 230),
        ),
        (
            "evolution_1",
            in_host_3("evolution_1"),
            found(None, None, stock(None, None), 10),
        ),
        (
            "evolution_2",
            in_host_3("evolution_2"),
            found(Some(8), None, stock(Some(2), None), 30),
        ),
        (
            "evolution_3",
            in_host_3("evolution_3"),
            found(Some(9), Some(17), stock(Some(2), Some(3)), 60),
        ),
    ];
    for (row, (plugin, found, expected)) in table.into_iter().enumerate() {
        assert_eq!(found, expected, "{plugin} in host {}", row / 3 + 1);
    }
}

/// The outer type is older than the host's, the inner one newer, or the same.
#[test]
fn each_type_is_judged_by_itself() {
    let found = |stock, counted| {
        Ok(Found {
            opens_at: None,
            closes_at: None,
            stock,
            counted,
        })
    };
    assert_eq!(
        in_host_1("evolution_mixed"),
        found([Some(1), None, None], 310)
    );
    assert_eq!(
        in_host_2("evolution_mixed"),
        found([Some(1), Some(2), None], 230)
    );
    assert_eq!(
        in_host_3("evolution_mixed"),
        found([Some(1), Some(2), Some(3)], 60)
    );
}

#[test]
fn what_both_have_must_be_the_same() {
    // To the first host these are fields that it does not know.
    assert!(in_host_1("evolution_other").is_ok());
    let reason = "layout: field `opens_at`: expected u32, found u64";
    assert_eq!(in_host_2("evolution_other").unwrap_err(), reason);
    // Here the plugin lacks a field as well, which is not what is wrong.
    assert_eq!(in_host_3("evolution_other").unwrap_err(), reason);
}
