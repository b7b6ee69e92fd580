//! Plugins that implement an older or a newer version of the host's trait.

use std::sync::Arc;

use hotswap_core::{Hotswap, Interface, Stage, reasons::Fault};
use hotswap_fixtures::evolution::{SKIES, v1, v2, v3};
use hotswap_sdk::{
    expansion::{Described, TypeIndex, Types, accept},
    host::{ImageMemory, LeaseSource, PluginRootRef, Refused, Trait},
};

use crate::fixtures::{plugin, trust};

/// What one side does instead of what the other has or has not.
#[derive(Default)]
struct Substitutes {
    bodies: Vec<String>,
    defaults: Vec<String>,
    others: Vec<String>,
    faults: Vec<String>,
}

/// Loads a plugin into a host of this version: what the host and the plugin make of each other.
macro_rules! host {
    ($version:ident) => {
        |name: &str| -> [Substitutes; 2] {
            let shop = Hotswap::<dyn $version::Shop>::load(plugin(name), &trust()).unwrap();
            let order = shop.call(|it| it.order()).unwrap();
            let sent_by_plugin = 0..shop.call(|it| it.skies()).unwrap();
            let of_host = Substitutes {
                bodies: texts(shop.with(|it| $version::bodies(it))),
                defaults: texts($version::defaults(&order)),
                others: texts($version::others(&order)),
                faults: faults(sent_by_plugin.map(|it| shop.call(|shop| shop.sky(it)).map(drop))),
            };
            let not_got = shop.call(|it| it.deliver(&$version::delivery())).unwrap();
            let not_got = |what: &str| {
                let all = not_got.iter().filter_map(|it| it.strip_prefix(what));
                all.map(str::to_owned).collect()
            };
            let sent_by_host = $version::skies().into_iter();
            let of_plugin = Substitutes {
                bodies: Vec::new(),
                defaults: not_got("default of "),
                others: not_got("Other for "),
                faults: faults(sent_by_host.map(|it| shop.call(|shop| shop.look_up(it)))),
            };
            [of_host, of_plugin]
        }
    };
}

fn texts(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// The skies that were sent in vain.
fn faults(sent: impl Iterator<Item = Result<(), Fault>>) -> Vec<String> {
    let faults = sent.enumerate().filter_map(|(number, result)| {
        let expected = Fault::Unknown(format!("variant {number} of `Sky`"));
        result.err().map(|fault| {
            assert_eq!(fault, expected);
            SKIES[number].to_owned()
        })
    });
    faults.collect()
}

/// The table of the manual is what real plugins and hosts see of each other.
#[test]
fn every_version_of_a_plugin_loads_into_every_version_of_a_host() {
    let plugins = [
        ("plugin 1.0", "evolution_1"),
        ("plugin 1.1", "evolution_2"),
        ("plugin 1.2", "evolution_3"),
        ("trait 1.0, data 1.2", "evolution_mixed"),
    ];
    let heads = plugins.map(|(head, _)| head).join(" | ");
    let mut table = format!("| | {heads} |\n|---|---|---|---|---|\n");
    let hosts: [fn(&str) -> [Substitutes; 2]; 3] = [host!(v1), host!(v2), host!(v3)];
    for (host, load) in hosts.into_iter().enumerate() {
        let cells = plugins.map(|(_, plugin)| cell(load(plugin)));
        table += &format!("| host 1.{host} | {} |\n", cells.join(" | "));
    }
    let page = include_str!("../../docs/evolution.md");
    assert!(page.contains(&table), "the page should have\n{table}");
}

fn cell(sides: [Substitutes; 2]) -> String {
    let sides = ["host", "plugin"].into_iter().zip(sides);
    let sides = sides.filter_map(|(side, it)| {
        let of_kind = |kind: &str, names: Vec<String>| match &names[..] {
            [] => None,
            names => Some(format!("{kind} `{}`", names.join("`, `"))),
        };
        let kinds = [
            of_kind("body of", it.bodies),
            of_kind("default of", it.defaults),
            of_kind("`Other` for", it.others),
            of_kind("fault at", it.faults),
        ];
        let kinds: Vec<_> = kinds.into_iter().flatten().collect();
        (!kinds.is_empty()).then(|| format!("{side}: {}", kinds.join("; ")))
    });
    let sides: Vec<_> = sides.collect();
    match &sides[..] {
        [] => "nothing".to_owned(),
        sides => sides.join("<br>"),
    }
}

/// The first version, as if its package had an incompatible version.
struct OfAnotherVersion;

// SAFETY: it is described as the trait is.
unsafe impl Described for OfAnotherVersion {
    const PACKAGE: &'static str = <dyn v1::Shop as Described>::PACKAGE;
    const NAME: &'static str = <dyn v1::Shop as Described>::NAME;
    const VERSION: &'static str = "0.3.7";

    fn describe_interface(types: &mut Types) -> TypeIndex {
        <dyn v1::Shop>::describe_interface(types)
    }
}

// SAFETY: no plugin is accepted.
unsafe impl Interface for OfAnotherVersion {
    type Kind = Trait;
    type Module = PluginRootRef;
    type Live = ();
    type Borrowed<'a> = ();

    fn name() -> String {
        <dyn v1::Shop as Interface>::name()
    }

    unsafe fn accept(
        module: PluginRootRef,
        memory: &dyn ImageMemory,
        leases: Arc<dyn LeaseSource>,
    ) -> Result<((), Option<String>), Refused> {
        // SAFETY: the module's layout was checked, and this is called once for its image (`# Safety` of this function).
        // No handle is made, because the version differs.
        let accepted = unsafe { accept::<Self>(module, memory, leases) };
        Err(accepted.map(drop).expect_err("another version"))
    }

    fn as_interface((): &()) -> &Self {
        &Self
    }

    fn borrow(live: &()) -> &() {
        live
    }
}

#[test]
fn an_incompatible_version_of_the_package_is_refused() {
    let loaded = Hotswap::<OfAnotherVersion>::load(plugin("evolution_1"), &trust());
    let error = loaded.map(drop).unwrap_err();
    assert_eq!(error.stage(), Stage::Version);
    assert_eq!(
        error.reason(),
        "version: the interface hotswap-fixtures::Shop: expected 0.3.x, found 0.1.0"
    );
}

#[test]
fn a_plugin_of_another_trait_is_refused() {
    let loaded = Hotswap::<dyn v1::Shop>::load(plugin("rules_1"), &trust());
    let error = loaded.map(drop).unwrap_err();
    assert_eq!(error.stage(), Stage::Layout);
    assert_eq!(
        error.reason(),
        "layout: another interface: expected hotswap-fixtures::Shop, found hotswap-fixtures::Rules"
    );
}
