//! Interfaces that differ in one place, each of which is refused.

use hotswap_core::{Hotswap, Stage, reasons};
use hotswap_fixtures::layouts::{self, base::Layouts};

use crate::fixtures::{plugin, trust};

#[test]
fn the_same_interface_is_accepted() {
    let it: Hotswap<dyn Layouts> = Hotswap::load(plugin("layouts"), &trust()).unwrap();
    assert_eq!(it.with(|it| (it.number(), it.sum(&[1, 2]))), (7, 3));
    let points: Result<Vec<_>, reasons::Fault> = it.call(|it| it.points());
    let points = points.unwrap();
    let points: Vec<_> = points.iter().map(|it| (it.x, it.y)).collect();
    assert_eq!(points, [(1, 2), (3, 4)]);
}

/// The place that the plugin has for the fields of a variant is aligned for fewer of them than the host has.
#[test]
fn a_newer_variant_may_need_another_alignment() {
    use layouts::variant_wider::{Layouts, Side};
    let it: Hotswap<dyn Layouts> = Hotswap::load(plugin("layouts"), &trust()).unwrap();
    let turned = it.with(|it| it.turn(Side::Left(5, 1), [2, 3]));
    assert!(matches!(turned, Some(Side::Right(3))));
    let turned = it.with(|it| it.turn(Side::Right(5), [2, 3]));
    assert!(matches!(turned, Some(Side::Left(2, 9))));
    assert!(it.with(|it| it.turn(Side::Right(5), [2, 6])).is_none());
}

#[test]
fn a_default_may_panic() {
    use layouts::default_panics::Layouts;
    let it: Hotswap<dyn Layouts> = Hotswap::load(plugin("layouts"), &trust()).unwrap();
    let fault = it.call(|it| it.points()).map(drop).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "panicked: no default, in a call of generation 1"
    );
    assert_eq!(it.call(|it| it.number()), Ok(7));
}

/// What the host expects is named first. The manual has some of these refusals.
#[test]
fn an_interface_that_differs_is_refused() {
    let mut refusals = Vec::new();
    macro_rules! check {
        ($($version:ident: $expected:literal,)*) => { $({
            let loaded = Hotswap::<dyn layouts::$version::Layouts>::load(plugin("layouts"), &trust());
            match loaded.map(drop) {
                Ok(()) => panic!("{} is accepted", stringify!($version)),
                Err(error) => {
                    assert_eq!(error.stage(), Stage::Layout);
                    assert_eq!(error.reason(), concat!("layout: ", $expected), stringify!($version));
                    refusals.push(error.reason());
                }
            }
        })* };
    }
    check! {
        fields_reordered: "points()[]: expected the field y, found x",
        field_renamed: "points()[]: expected the field z, found y",
        field_added: "points()[].z: expected u32, found no such field",
        field_wider: "points()[].y: expected u64, found u32",
        field_signed: "points()[].y: expected i32, found u32",
        field_boxed: "points()[].y: expected Box<u32>, found u32",
        field_optional: "points()[].y: expected Option<u32>, found u32",
        variants_swapped: "turn.side: expected the variant Right, found Left",
        variant_with_name: "turn.side.Left: expected the field by, found 0",
        variant_with_more: "turn()?.Right.1: expected u32, found no such field",
        result_wider: "number(): expected u64, found u32",
        result_of_the_machine: "number(): expected usize, found u32",
        result_char: "number(): expected char, found u32",
        result_boxed: "number(): expected Box<u32>, found u32",
        result_missing: "number(): expected (), found u32",
        method_async: "number(): expected impl Future<Output = u32>, found u32",
        method_renamed: "numbers: expected this method here, found number",
        parameter_added: "number: expected 1 parameter, found 0",
        items_boxed: "points()[]: expected Box<Point>, found Point",
        items_in_a_queue: "points(): expected VecDeque<Point>, found Vec<Point>",
        method_removed: "sum: expected this method here, found points",
        slice_boxed: "sum.numbers[]: expected Box<u32>, found u32",
        array_longer: "turn.by: expected [u32; 3], found [u32; 2]",
        array_boxed: "turn.by[]: expected Box<u32>, found u32",
        map_ordered: "map(): expected BTreeMap<String, (u8, i8)>, found HashMap<String, (u8, i8)>",
        tuple_turned: "map(){value}.0: expected i8, found u8",
        bodies_reordered: "second: expected this method here, found first",
        without_a_body: "third: expected a method, found none, and the host has no default body for it",
    }
    let page = include_str!("../../docs/evolution.md");
    let (_, table) = page.split_once("| refusal |\n|---|---|\n").unwrap();
    let rows: Vec<_> = table.lines().take_while(|it| it.starts_with('|')).collect();
    assert_eq!(rows.len(), 13);
    for row in rows {
        let quoted = row.split('`').nth(1).unwrap();
        assert!(refusals.iter().any(|it| it == quoted), "{row}");
    }
}
