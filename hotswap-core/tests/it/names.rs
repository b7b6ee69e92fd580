//! Interfaces and data that use names and attributes of their own, with which what the macros write could collide.

#![deny(warnings)]

use hotswap_core::{Hotswap, reasons::Fault};
use hotswap_sdk::{data, export, function, interface};

/// Names of the prelude, and of what the macros use.
mod shadowed {
    #![allow(
        dead_code,
        unused_imports,
        clippy::allow_attributes,
        reason = "they are only in the way"
    )]

    use hotswap_sdk::{data, interface};

    pub(super) struct Box;
    pub(super) struct Option;
    pub(super) struct Result;
    pub(super) struct String;
    pub(super) struct Vec;
    pub(super) struct Data;
    pub(super) struct Owned;
    pub(super) struct Pair;
    pub(super) struct Nil;
    pub(super) enum Answer {
        Some,
        None,
        Ok,
        Err,
    }
    pub(super) use Answer::{Err, None, Ok, Some};

    #[data]
    pub(super) struct Own {
        pub(super) a: u32,
        #[data(default)]
        pub(super) b: ::std::option::Option<u32>,
    }

    #[data]
    pub(super) enum Either {
        Some(Own),
        None,
        #[data(other)]
        Ok,
    }

    #[interface]
    pub(super) trait Shadowed {
        fn turn(&self, either: Either) -> ::std::result::Result<Own, ::std::string::String>;
        fn more(&self) -> u32 {
            1
        }
    }
}

struct Turns;

impl shadowed::Shadowed for Turns {
    fn turn(&self, either: shadowed::Either) -> Result<shadowed::Own, String> {
        match either {
            shadowed::Either::Some(own) => Ok(own),
            _ => Err("none".to_owned()),
        }
    }
}

#[test]
fn names_of_the_prelude_may_be_taken() {
    use shadowed::{Either, Own};
    let it = Hotswap::<dyn shadowed::Shadowed>::builtin(Turns).unwrap();
    let own = Own { a: 1, b: Some(2) };
    let own = it.with(|it| it.turn(Either::Some(own))).unwrap();
    assert_eq!((own.a, own.b, it.with(|it| it.more())), (1, Some(2), 1));
    assert!(it.with(|it| it.turn(Either::None)).is_err());
    assert!(it.with(|it| it.turn(Either::Ok)).is_err());
}

/// Without a method.
#[interface]
trait Nothing {}

/// Methods with names that others have too; those with bodies are also called on a value that has not got them.
#[interface]
trait Methods {
    fn call(&self) -> u32;
    fn clone(&self) -> u32;
    fn drop(&self) -> u32;
    fn into(&self) -> u32 {
        1
    }
    fn try_into(&self, caller: u32) -> u32 {
        self.call() + caller
    }
    fn describe(
        &self,
        this: u32,
        out: &str,
        reader: String,
        fields: &[u8],
        arguments: (u8,),
    ) -> usize {
        [
            this as usize,
            out.len(),
            reader.len(),
            fields.len(),
            arguments.0.into(),
        ]
        .into_iter()
        .sum()
    }
    fn r#type(&self, r#fn: u32, mut value: u32, _: &str) -> u32 {
        value += r#fn;
        value
    }
}

struct All;

impl Nothing for All {}

impl Methods for All {
    fn call(&self) -> u32 {
        10
    }

    fn clone(&self) -> u32 {
        20
    }

    fn drop(&self) -> u32 {
        30
    }
}

#[test]
fn methods_may_have_any_name() {
    let nothing = Hotswap::<dyn Nothing>::builtin(All).unwrap();
    nothing.with(|_| ());
    let it = Hotswap::<dyn Methods>::builtin(All).unwrap();
    it.with(|it| {
        let numbers = [
            it.call(),
            it.clone(),
            it.drop(),
            Methods::into(it),
            Methods::try_into(it, 5),
        ];
        assert_eq!(numbers, [10, 20, 30, 1, 15]);
        assert_eq!(
            it.describe(1, "ab", "abc".to_owned(), &[1, 2, 3, 4], (5,)),
            15
        );
        assert_eq!(it.r#type(1, 2, ""), 3);
    });
}

fn reader() -> u32 {
    1
}

fn view() -> u32 {
    2
}

fn there() -> u32 {
    3
}

/// Fields with names that others have too, and defaults that call functions with such names.
#[data]
#[derive(Clone, Debug, PartialEq)]
struct Fields {
    value: u32,
    count: u32,
    r#type: u32,
    #[data(default = reader())]
    fields: u32,
    #[data(default = view() + there())]
    of: u32,
}

#[data]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Unit;

#[data]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Empty {}

#[data]
#[derive(Clone, Debug, PartialEq)]
#[repr(u8)]
enum Old {
    #[deprecated]
    First = 3,
    Second {
        #[deprecated]
        value: u32,
    },
    Third(),
}

#[data]
#[derive(Clone, Debug, PartialEq)]
struct Parts<T: Clone, const N: usize = 2> {
    #[deprecated]
    all: [T; N],
}

#[test]
fn data_may_have_any_name() {
    /// In a function.
    #[interface]
    trait Echo {
        fn fields(&self, fields: Fields) -> Fields;
        fn units(&self, units: Vec<Unit>, empty: &[Empty]) -> (Vec<Unit>, usize);
        fn old(&self, old: Vec<Old>) -> Vec<Old>;
        fn parts(&self, parts: Parts<Option<Fields>, 1>) -> Parts<Option<Fields>, 1>;
        #[deprecated]
        fn later(&self) -> u32 {
            1
        }
    }

    struct Same;

    impl Echo for Same {
        fn fields(&self, fields: Fields) -> Fields {
            fields
        }

        fn units(&self, units: Vec<Unit>, empty: &[Empty]) -> (Vec<Unit>, usize) {
            (units, empty.len())
        }

        fn old(&self, old: Vec<Old>) -> Vec<Old> {
            old
        }

        fn parts(&self, parts: Parts<Option<Fields>, 1>) -> Parts<Option<Fields>, 1> {
            parts
        }
    }

    let it = Hotswap::<dyn Echo>::builtin(Same).unwrap();
    let fields = Fields {
        value: 1,
        count: 2,
        r#type: 3,
        fields: 4,
        of: 5,
    };
    assert_eq!(it.with(|it| it.fields(fields.clone())), fields);
    assert_eq!(
        it.with(|it| it.units(vec![Unit; 9], &[Empty {}; 7])),
        (vec![Unit; 9], 7)
    );
    #[expect(deprecated, reason = "what is deprecated crosses, too")]
    {
        let old = vec![Old::First, Old::Second { value: 1 }, Old::Third()];
        assert_eq!(it.with(|it| it.old(old.clone())), old);
        let parts = Parts {
            all: [Some(fields)],
        };
        assert_eq!(it.with(|it| it.parts(parts.clone())), parts);
        assert_eq!(it.with(|it| it.later()), 1);
    }
}

/// Functions and types with names that others have too. (In tests they are compiled, and not exported.)
mod functions {
    use super::{data, export, function};

    #[data]
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(super) struct Function(pub(super) u32);

    #[export]
    pub(super) fn entry(entry: Function, _: u32) -> Function {
        entry
    }

    #[export]
    pub(super) fn dispatch(signature: &[Function], arguments: u32, out: &str) -> usize {
        signature.len() + arguments as usize + out.len()
    }

    #[function]
    pub(super) type Entry = fn(arguments: Function, u32) -> Function;
}

#[test]
fn functions_may_have_any_name() {
    use functions::{Entry, Function, dispatch, entry};
    assert_eq!(entry(Function(1), 2), Function(1));
    assert_eq!(dispatch(&[Function(1)], 2, "abc"), 6);
    let _: fn(&Entry, Function, u32) -> Result<Function, Fault> = Entry::call;
}
