//! What the demo's binary is made of.

use std::fs;

use object::{Object as _, ObjectSymbol as _};

/// The shadows of `unloadable!` belong into plugins. In a host they would be found by everything in the process.
#[test]
fn unloadable_is_not_linked_into_the_host() {
    let file = fs::read(env!("CARGO_BIN_EXE_hotswap-demo")).unwrap();
    let file = object::File::parse(&*file).unwrap();
    let names = [
        "hotswap_unload",
        "pthread_create",
        "pthread_key_create",
        "__cxa_thread_atexit_impl",
    ];
    let mut seen = 0;
    for symbol in file.symbols().chain(file.dynamic_symbols()) {
        let name = symbol.name().unwrap_or_default();
        seen += usize::from(name == "pthread_create");
        assert!(
            !names.contains(&name) || symbol.is_undefined(),
            "the host defines `{name}`"
        );
    }
    assert!(
        seen > 0,
        "the demo starts threads, so it needs libc's function"
    );
}
