//! Tests which types count as the same. (`tests/it/services/refs.rs` does so with real plugins.)

use std::{cell::UnsafeCell, fmt, marker::PhantomData};

use abi_stable::{
    StableAbi,
    abi_stability::extra_checks::{ExtraChecks, ExtraChecksError, TypeCheckerMut},
    std_types::{RCowSlice, ROk, RResult, RStr, RVec},
    tag,
    type_layout::{Tag, TypeLayout},
};

use super::Shape;

#[track_caller]
fn difference<Expected: StableAbi, Found: StableAbi>() -> Option<String> {
    let shape = |layout: &'static TypeLayout| Shape::of(layout).expect("one that can be kept");
    assert_eq!(
        shape(Expected::LAYOUT).difference(&shape(Expected::LAYOUT)),
        None
    );
    assert_eq!(shape(Found::LAYOUT).difference(&shape(Found::LAYOUT)), None);
    shape(Expected::LAYOUT).difference(&shape(Found::LAYOUT))
}

#[track_caller]
fn differ<Expected: StableAbi, Found: StableAbi>(expected: &str) {
    assert_eq!(difference::<Expected, Found>().as_deref(), Some(expected));
}

/// A fixed-point number with `SCALE` units to one.
#[repr(C)]
#[derive(StableAbi)]
struct Decimal<const SCALE: u32> {
    raw: i64,
}

/// A marker type without a value.
#[repr(C)]
#[derive(StableAbi)]
struct Scale<const SCALE: u32>;

#[repr(C)]
#[derive(StableAbi)]
struct Amount<S> {
    raw: i64,
    scale: PhantomData<S>,
}

#[repr(C)]
#[derive(StableAbi)]
#[sabi(phantom_const_param = 100_u32)]
struct Hidden {
    raw: i64,
}

mod other {
    use super::*;

    #[repr(C)]
    #[derive(StableAbi)]
    #[sabi(phantom_const_param = 10_000_u32)]
    pub struct Hidden {
        raw: i64,
    }
}

#[test]
fn constants_count() {
    differ::<Decimal<10_000>, Decimal<100>>("expected Decimal<10000>, found Decimal<100>");
    differ::<RVec<Decimal<1>>, RVec<Decimal<2>>>(
        "expected RVec<Decimal<1>>, found RVec<Decimal<2>>",
    );
    differ::<[u8; 3], [u8; 4]>("expected [u8; 3], found [u8; 4]");
    differ::<[Scale<1>; 3], [Scale<1>; 4]>("expected [Scale<1>; 3], found [Scale<1>; 4]");
    differ::<Hidden, other::Hidden>("expected Hidden<100>, found Hidden<10000>");
}

mod hundredths {
    use super::*;

    #[repr(C)]
    #[derive(StableAbi)]
    pub struct Cent {
        scale: PhantomData<Scale<100>>,
    }

    #[repr(C)]
    #[derive(StableAbi)]
    #[sabi(phantom_field(unit: Scale<100>))]
    pub struct Price {
        raw: i64,
    }
}

mod ten_thousandths {
    use super::*;

    #[repr(C)]
    #[derive(StableAbi)]
    pub struct Cent {
        scale: PhantomData<Scale<10_000>>,
    }

    #[repr(C)]
    #[derive(StableAbi)]
    #[sabi(phantom_field(unit: Scale<10_000>))]
    pub struct Price {
        raw: i64,
    }
}

#[test]
fn markers_count() {
    differ::<Amount<Scale<1>>, Amount<Scale<2>>>(
        "field `scale`: expected PhantomData<Scale<1>>, found PhantomData<Scale<2>>",
    );
    differ::<Amount<hundredths::Cent>, Amount<ten_thousandths::Cent>>(
        "field `scale.scale`: expected PhantomData<Scale<100>>, found PhantomData<Scale<10000>>",
    );
    differ::<hundredths::Price, ten_thousandths::Price>(
        "field `unit`: expected Scale<100>, found Scale<10000>",
    );
}

#[test]
fn a_marker_may_be_what_no_value_may() {
    let shape = Shape::of(Amount::<RStr<'static>>::LAYOUT).expect("nothing of it is in a value");
    assert!(shape.is_plain());
    let shape = Shape::of(Amount::<RVec<u8>>::LAYOUT).expect("nothing of it is in a value");
    assert!(shape.is_plain());
    let refused = Shape::of(RStr::<'static>::LAYOUT).unwrap_err();
    assert!(
        refused.starts_with("`RStr` may lead into the plugin"),
        "{refused}"
    );
}

macro_rules! tagged {
    ($module:ident: $tag:expr) => {
        mod $module {
            use super::*;

            #[repr(C)]
            #[derive(StableAbi)]
            #[sabi(tag = $tag)]
            pub struct Price {
                raw: i64,
            }
        }
    };
}

tagged! { euro: tag!({"currency" => "euro", "scale" => 100}) }
tagged! { euro_turned: tag!({"scale" => 100, "currency" => "euro"}) }
tagged! { dollar: tag!({"currency" => "dollar", "scale" => 100}) }
tagged! { untagged: Tag::null() }
tagged! { noted: Tag::ignored(&Tag::str("a")) }
tagged! { noted_otherwise: Tag::ignored(&Tag::str("b")) }

#[test]
fn tags_count() {
    differ::<euro::Price, dollar::Price>(
        r#"the tag of `Price`: expected map {"currency": "euro", "scale": 100}, found map {"currency": "dollar", "scale": 100}"#,
    );
    differ::<untagged::Price, euro::Price>(
        r#"the tag of `Price`: expected none, found map {"currency": "euro", "scale": 100}"#,
    );
    differ::<RVec<euro::Price>, RVec<untagged::Price>>(
        r#"the tag of `Price`: expected map {"currency": "euro", "scale": 100}, found none"#,
    );
    assert!(difference::<Amount<euro::Price>, Amount<dollar::Price>>().is_some());
    assert_eq!(difference::<euro::Price, euro_turned::Price>(), None);
    assert_eq!(difference::<noted::Price, noted_otherwise::Price>(), None);
}

/// The number of digits after the decimal point.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
struct Digits(u32);

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("digits")
    }
}

// SAFETY: `type_layout` returns the layout of `Digits`, and each method returns the same value every time.
unsafe impl ExtraChecks for Digits {
    fn type_layout(&self) -> &'static TypeLayout {
        <Self as StableAbi>::LAYOUT
    }

    fn check_compatibility(
        &self,
        _: &'static TypeLayout,
        _: &'static TypeLayout,
        _: TypeCheckerMut<'_>,
    ) -> RResult<(), ExtraChecksError> {
        ROk(())
    }

    fn nested_type_layouts(&self) -> RCowSlice<'_, &'static TypeLayout> {
        RCowSlice::from_slice(&[])
    }
}

macro_rules! checked {
    ($module:ident: $digits:expr) => {
        mod $module {
            use super::*;

            #[repr(C)]
            #[derive(StableAbi)]
            #[sabi(extra_checks = Digits($digits))]
            pub struct Price {
                raw: i64,
            }
        }
    };
}

checked! { two: 2 }
checked! { two_again: 2 }
checked! { four: 4 }

#[test]
fn extra_checks_count() {
    differ::<four::Price, two::Price>(
        "the extra checks of `Price`: expected Digits(4), found Digits(2)",
    );
    differ::<untagged::Price, two::Price>(
        "the extra checks of `Price`: expected none, found Digits(2)",
    );
    differ::<two::Price, untagged::Price>(
        "the extra checks of `Price`: expected Digits(2), found none",
    );
    assert_eq!(difference::<two::Price, two_again::Price>(), None);
}

#[repr(C)]
#[derive(StableAbi)]
struct Tree {
    value: u64,
    children: UnsafeCell<RVec<Tree>>,
}

/// By way of a cell, whose content is looked into by itself.
#[test]
fn a_type_that_contains_itself_in_a_cell_is_refused() {
    let refused = Shape::of(Tree::LAYOUT).unwrap_err();
    assert_eq!(
        refused,
        "field `children`: `RVec<Tree>` may be exchanged there for one of another plugin, which would not be kept; only plain \
         data can be shared so"
    );
}
