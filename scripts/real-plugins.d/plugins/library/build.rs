//! Lets the plugin find its library where that was built.

use std::env;

fn main() {
    let folder = env::var("DEP_HELPER_FOLDER").expect("set by helper-sys");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
}
