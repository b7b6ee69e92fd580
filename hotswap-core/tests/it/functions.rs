//! Single functions: found, compared, called, and their libraries gone when nobody has them any more.

use hotswap_core::{Stage, State, loader::Loader, reasons::Fault};

use crate::fixtures::{SOON, plugin, trust};

/// From a name to a greeting.
#[hotswap_sdk::function]
pub type Greet = fn(name: &str) -> String;

#[hotswap_sdk::function]
type Add = fn(u64, u64) -> u64;

#[hotswap_sdk::function]
type Panic = fn(text: &str);

#[hotswap_sdk::function]
type Mean = fn(numbers: &[f64]) -> Result<f64, String>;

fn loader() -> Loader {
    Loader::new(&trust()).unwrap()
}

#[track_caller]
fn gone(loader: &Loader, number: u64) {
    assert_eq!(loader.wait(number, SOON), Some(State::Unloaded));
}

#[test]
fn a_function_is_called_and_its_library_leaves_with_it() {
    let loader = loader();
    let path = plugin("functions_1");
    let greet = loader.function::<Greet>(&path, "greet").unwrap();
    assert_eq!(greet.call("Rust"), Ok("Hello Rust".to_owned()));
    let other = greet.clone();
    drop(greet);
    assert_eq!(other.call("you"), Ok("Hello you".to_owned()));
    drop(other);
    gone(&loader, 1);
}

#[test]
fn several_functions_of_one_library() {
    let loader = loader();
    let library = loader.open(plugin("functions_1")).unwrap();
    let add: Add = library.function("add").unwrap();
    let mean: Mean = library.function("mean").unwrap();
    drop(library);
    assert_eq!(add.call(40, 2), Ok(42));
    assert_eq!(mean.call(&[1.0, 2.0]), Ok(Ok(1.5)));
    assert_eq!(mean.call(&[]), Ok(Err("no numbers".to_owned())));
    drop((add, mean));
    gone(&loader, 1);
}

#[test]
fn a_panic_is_a_fault_of_the_call() {
    let loader = loader();
    let panic: Panic = loader.function(plugin("functions_1"), "panic").unwrap();
    let Err(Fault::Panicked(text)) = panic.call("oh dear") else {
        panic!("it returns nothing")
    };
    assert!(text.starts_with("oh dear ("), "{text}");
    assert!(text.contains("functions_1.rs:"), "{text}");
}

#[test]
fn other_types_are_refused_with_the_place() {
    #[hotswap_sdk::function]
    type OfNumber = fn(name: u64) -> String;
    #[hotswap_sdk::function]
    type ToNumber = fn(name: &str) -> u64;
    #[hotswap_sdk::function]
    type OfTwo = fn(name: &str, again: bool) -> String;

    let loader = loader();
    let path = plugin("functions_1");
    let reason = |error: hotswap_core::Error| {
        assert_eq!(error.stage(), Stage::Layout);
        assert_eq!(error.path(), path);
        error.reason()
    };
    assert_eq!(
        reason(loader.function::<OfNumber>(&path, "greet").unwrap_err()),
        "layout: greet.name: expected u64, found &str"
    );
    assert_eq!(
        reason(loader.function::<ToNumber>(&path, "greet").unwrap_err()),
        "layout: greet(): expected u64, found String"
    );
    assert_eq!(
        reason(loader.function::<OfTwo>(&path, "greet").unwrap_err()),
        "layout: greet: expected 2 parameters, found 1"
    );
    // The file was mapped for that, and has left again.
    assert!(loader.libraries().is_empty(), "{:?}", loader.libraries());
    assert_eq!(loader.refused().len(), 3);
}
