//! What the compiler says of mistakes, with the macros. `TRYBUILD=overwrite cargo test -p hotswap-sdk --test ui` writes it
//! anew.

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
