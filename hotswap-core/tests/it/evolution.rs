//! Plugins that implement an older or a newer version of the host's trait.

use std::sync::Arc;

use hotswap_core::{HostServices, Hotswap, Interface, Settings, Stage};
use hotswap_fixtures::evolution::{Substitutes, Visitor, v1, v2, v3};
use hotswap_sdk::{
    expansion::{Described, Remote, TypeIndex, Types, accept},
    host::{ImageMemory, Offer, PluginRootRef, Refused, Trait},
};

use crate::fixtures::{plugin, trust};

/// Loads a plugin into a host of this version: what the host and the plugin make of each other.
macro_rules! host {
    ($version:ident) => {
        |name: &str| {
            let shop = Hotswap::<dyn $version::Shop>::load(plugin(name), &trust()).unwrap();
            let (host, plugin) = shop.with(|it| $version::visit(it));
            [host, plugin]
        }
    };
}

/// Loads a plugin into a host that has a service of this version.
macro_rules! service {
    ($version:ident: $($method:ident)*) => {
        |name: &str| {
            hotswap_fixtures::evolution_shop!(Service $version: $($method)*);
            let settings = Settings {
                host_services: HostServices::new().with::<dyn $version::Shop>(Arc::new(Service)),
                ..Settings::default()
            };
            let visitor = Hotswap::<dyn Visitor>::load_with(plugin(name), &trust(), settings);
            let (plugin, host) = visitor.unwrap().call(|it| it.visit()).unwrap();
            [host, plugin]
        }
    };
}

type Load = fn(&str) -> [Substitutes; 2];

/// The table of the manual is what real plugins and hosts see of each other.
#[test]
fn every_version_of_a_plugin_loads_into_every_version_of_a_host() {
    let plugins = [
        ("plugin 1.0", "evolution_1"),
        ("plugin 1.1", "evolution_2"),
        ("plugin 1.2", "evolution_3"),
        ("trait 1.0, data 1.2", "evolution_mixed"),
    ];
    check_table(&plugins, [host!(v1), host!(v2), host!(v3)]);
}

/// The same of a service of the host, which the plugins call.
#[test]
fn every_version_of_a_plugin_takes_every_version_of_a_service() {
    let plugins = [
        ("plugin 1.0", "visitor_1"),
        ("plugin 1.1", "visitor_2"),
        ("plugin 1.2", "visitor_3"),
    ];
    let (first, second, third): (Load, Load, Load) = (
        service!(v1:),
        service!(v2: opens_at),
        service!(v3: opens_at closes_at),
    );
    check_table(&plugins, [first, second, third]);
}

fn check_table(plugins: &[(&str, &str)], hosts: [Load; 3]) {
    let heads: Vec<_> = plugins.iter().map(|(head, _)| *head).collect();
    let line = "|---".repeat(plugins.len() + 1);
    let mut table = format!("| | {} |\n{line}|\n", heads.join(" | "));
    for (host, load) in hosts.into_iter().enumerate() {
        let cells: Vec<_> = plugins
            .iter()
            .map(|(_, plugin)| cell(load(plugin)))
            .collect();
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

    unsafe fn proxy(_: Remote) -> Box<Self> {
        Box::new(Self)
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
        offer: Offer<'_>,
    ) -> Result<((), Option<String>), Refused> {
        // SAFETY: the module's layout was checked, and this is called once for its image (`# Safety` of this function).
        // No handle is made, because the version differs.
        let accepted = unsafe { accept::<Self>(module, memory, offer) };
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
