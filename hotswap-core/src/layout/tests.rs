//! Tests what counts as a difference, and what as growth. (`tests/it/root_modules.rs` does so with real plugins.)

use abi_stable::{StableAbi, std_types::RVec};

use super::{Description, check};

/// A host's and a plugin's version of `Outer`, each in a module of that name.
macro_rules! views {
    ($test:ident: host { $($host:item)* } plugin { $($plugin:item)* } $expected:expr) => {
        mod $test {
            use super::*;

            mod host { use super::*; $($host)* }
            mod plugin { use super::*; $($plugin)* }

            #[test]
            fn check_both() {
                let found = check(Description::of::<host::Outer>(), Description::of::<plugin::Outer>());
                let found = found.map_err(|mismatch| mismatch.summary);
                let expected: Result<(), &str> = $expected;
                assert_eq!(found, expected.map_err(str::to_owned));
            }
        }
    };
}

macro_rules! prefix {
    ($name:ident, $reference:ident: { $($always:ident: $type:ty),* } then { $($later:ident: $later_type:ty),* }) => {
        #[repr(C)]
        #[derive(StableAbi)]
        #[sabi(kind(Prefix(prefix_ref = $reference)))]
        #[sabi(missing_field(option))]
        pub struct $name {
            $(pub $always: $type,)*
            #[sabi(last_prefix_field)]
            pub always: u8,
            $(pub $later: $later_type,)*
        }
    };
}

macro_rules! outer {
    ($($field:ident: $type:ty),*) => {
        #[repr(C)]
        #[derive(StableAbi)]
        pub struct Outer {
            $(pub $field: $type,)*
        }
    };
}

views! { a_prefix_type_behind_anything_may_have_grown:
    host {
        outer! { inner: RVec<InnerRef>, function: extern "C" fn(InnerRef) -> OtherRef }
        prefix! { Inner, InnerRef: {} then { a: u8, b: u64 } }
        prefix! { Other, OtherRef: {} then { a: u8 } }
    }
    plugin {
        outer! { inner: RVec<InnerRef>, function: extern "C" fn(InnerRef) -> OtherRef }
        prefix! { Inner, InnerRef: {} then { a: u8 } }
        prefix! { Other, OtherRef: {} then { a: u8, b: u64 } }
    }
    Ok(())
}

views! { a_field_that_is_there_without_asking_must_be_there:
    host {
        outer! { inner: InnerRef }
        prefix! { Inner, InnerRef: { a: u64 } then {} }
    }
    plugin {
        outer! { inner: InnerRef }
        prefix! { Inner, InnerRef: {} then {} }
    }
    Err("field `inner`: `Inner` lacks the field `a`: expected `a`, `always`, found `always`")
}

views! { a_field_cannot_come_to_be_always_there:
    host {
        outer! { inner: InnerRef }
        prefix! { Inner, InnerRef: {} then { a: u64, b: u64 } }
    }
    plugin {
        outer! { inner: InnerRef }

        #[repr(C)]
        #[derive(StableAbi)]
        #[sabi(kind(Prefix(prefix_ref = InnerRef)))]
        #[sabi(missing_field(option))]
        pub struct Inner {
            pub always: u8,
            #[sabi(last_prefix_field)]
            pub a: u64,
        }
    }
    Err("field `inner`: fields that are always there: expected 1, found 2")
}

views! { any_other_type_may_not_grow:
    host {
        outer! { inner: Inner }
        #[repr(C)]
        #[derive(StableAbi)]
        pub struct Inner { pub a: u64, pub b: u64 }
    }
    plugin {
        outer! { inner: Inner }
        #[repr(C)]
        #[derive(StableAbi)]
        pub struct Inner { pub a: u64 }
    }
    Err("field `inner`: `Inner` lacks the field `b`: expected `a`, `b`, found `a`")
}

views! { nor_may_it_have_grown_in_the_plugin:
    host {
        outer! { origin: Point }
        #[repr(C)]
        #[derive(StableAbi)]
        pub struct Point { pub x: u32, pub y: u32 }
    }
    plugin {
        outer! { origin: Point }
        #[repr(C)]
        #[derive(StableAbi)]
        pub struct Point { pub x: u32, pub y: u32, pub z: u32 }
    }
    Err("field `origin`: `Point` has a field `z` more: expected `x`, `y`, found `x`, `y`, `z`")
}

views! { growth_does_not_hide_what_lies_behind_it:
    host {
        outer! { inner: InnerRef }
        prefix! { Inner, InnerRef: {} then { a: OtherRef, b: u64 } }
        prefix! { Other, OtherRef: {} then { c: u64 } }
    }
    plugin {
        outer! { inner: InnerRef }
        prefix! { Inner, InnerRef: {} then { a: OtherRef } }
        prefix! { Other, OtherRef: {} then { c: i64 } }
    }
    Err("field `inner.a.c`: expected u64, found i64")
}

views! { two_versions_of_a_type_are_not_one:
    host {
        outer! { one: InnerRef, other: InnerRef }
        prefix! { Inner, InnerRef: {} then { a: u64, b: u64 } }
    }
    plugin {
        outer! { one: older::InnerRef, other: newer::InnerRef }
        mod older { use super::*; prefix! { Inner, InnerRef: {} then { a: u64 } } }
        mod newer { use super::*; prefix! { Inner, InnerRef: {} then { a: u64, b: u64, c: u8 } } }
    }
    Err("several types `Inner`, of which one is older: expected one")
}
