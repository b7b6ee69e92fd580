//! Plugins with a root module of their own, of an older and of a newer version of the host's interface.

use abi_stable::{library::RootModule, prefix_type::WithMetadata};
use hotswap_core::{Generation, Hotswap, Result};
use hotswap_fixtures::root_modules::{v1, v2, v3};

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

/// The table of the manual, made of what hosts and plugins find absent in each other's values: a plugin counts 100 for
/// pears that are not there, and 200 for plums.
#[test]
fn every_version_of_a_plugin_loads_into_every_version_of_a_host() {
    let plugins = [
        ("1.0", "root_module_1"),
        ("1.1", "root_module_2"),
        ("1.2", "root_module_3"),
        ("1.0 around 1.2", "root_module_mixed"),
    ];
    let heads = plugins.map(|(name, _)| match name {
        "1.0 around 1.2" => name.to_owned(),
        version => format!("plugin {version}"),
    });
    let mut table = format!("| | {} |\n|---|---|---|---|---|\n", heads.join(" | "));
    for (host, load) in [in_host_1, in_host_2, in_host_3].into_iter().enumerate() {
        let cells = plugins.map(|(_, plugin)| cell(host, &load(plugin).unwrap()));
        table += &format!("| host 1.{host} | {} |\n", cells.join(" | "));
    }
    let page = include_str!("../../docs/root-modules.md");
    assert!(page.contains(&table), "the page should have\n{table}");
}

/// What a host that knows all fields up to version `1.host` finds absent, and what the plugin does.
fn cell(host: usize, found: &Found) -> String {
    let in_host = [
        (1, "opens_at", found.opens_at),
        (2, "closes_at", found.closes_at),
        (1, "pears", found.stock[1]),
        (2, "plums", found.stock[2]),
    ];
    let absent = in_host
        .iter()
        .filter(|(since, _, value)| *since <= host && value.is_none());
    let by_host: Vec<&str> = absent.map(|(_, name, _)| *name).collect();
    let mut by_plugin = Vec::new();
    let missed = found.counted / 100;
    if missed & 1 != 0 {
        by_plugin.push("pears");
    }
    if missed & 2 != 0 {
        by_plugin.push("plums");
    }
    let sides = [("host", by_host), ("plugin", by_plugin)].map(|(side, names)| match &names[..] {
        [] => None,
        names => Some(format!("{side}: `{}`", names.join("`, `"))),
    });
    let sides: Vec<String> = sides.into_iter().flatten().collect();
    match &sides[..] {
        [] => "nothing".to_owned(),
        sides => sides.join("; "),
    }
}

/// What is there has the right value, on either side.
#[test]
fn what_both_know_has_its_value() {
    let stock = |pears, plums| [Some(1), pears, plums];
    let newest = Found {
        opens_at: Some(9),
        closes_at: Some(17),
        stock: stock(Some(2), Some(3)),
        counted: 60,
    };
    assert_eq!(in_host_3("root_module_3").unwrap(), newest);
    let older_plugin = Found {
        opens_at: Some(8),
        closes_at: None,
        stock: stock(Some(2), None),
        counted: 30,
    };
    assert_eq!(in_host_3("root_module_2").unwrap(), older_plugin);
    let older_host = Found {
        opens_at: Some(9),
        closes_at: None,
        stock: stock(Some(2), None),
        counted: 230,
    };
    assert_eq!(in_host_2("root_module_3").unwrap(), older_host);
    let older_around_newer = Found {
        opens_at: None,
        closes_at: None,
        stock: stock(Some(2), Some(3)),
        counted: 60,
    };
    assert_eq!(in_host_3("root_module_mixed").unwrap(), older_around_newer);
}

#[test]
fn what_both_have_must_be_the_same() {
    // To the first host these are fields that it does not know.
    assert!(in_host_1("root_module_other").is_ok());
    let reason = "layout: field `opens_at`: expected u32, found u64";
    assert_eq!(in_host_2("root_module_other").unwrap_err(), reason);
    // Here the plugin lacks a field as well, which is not what is wrong.
    assert_eq!(in_host_3("root_module_other").unwrap_err(), reason);
}

/// The page shows what the example is made of, but for the lines that put its files together.
#[test]
fn the_page_has_the_code_of_the_example() {
    let page = include_str!("../../docs/root-modules.md");
    for file in [
        include_str!("../../examples/root_module/interface.rs"),
        include_str!("../../examples/root_module/plugin.rs"),
        include_str!("../../examples/root_module.rs"),
    ] {
        let from = file.find("\nuse interface::").unwrap_or_default();
        let (_, code) = file[from..].split_once("\n\n").unwrap();
        assert!(page.contains(code), "the page should have\n{code}");
    }
}
