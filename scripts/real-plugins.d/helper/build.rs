//! Builds `libhelper.so`, and tells those who use it where it is.

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=helper.c");
    let folder = env::var("OUT_DIR").expect("set by cargo");
    let library = Path::new(&folder).join("libhelper.so");
    let compiler = cc::Build::new().get_compiler();
    let status = compiler
        .to_command()
        .args(["-shared", "-pthread", "-Wl,-soname,libhelper.so", "-o"])
        .arg(&library)
        .arg("helper.c")
        .status();
    assert!(
        status.expect("a C compiler").success(),
        "cannot build {library:?}"
    );
    println!("cargo::rustc-link-search={folder}");
    println!("cargo::rustc-link-lib=dylib=helper");
    println!("cargo::metadata=folder={folder}");
}
