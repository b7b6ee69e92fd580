//! Compiles the file of the chosen feature.

use std::env;

/// By the names in which cargo gives them to build scripts.
const SOURCES: [(&str, &str); 12] = [
    ("PLAIN", "plain.cpp"),
    ("UNIQUE", "unique.cpp"),
    ("JOINED", "joined.cpp"),
    ("DETACHED", "detached.cpp"),
    ("ASYNC", "async.cpp"),
    ("THRD", "thrd.c"),
    ("TSS", "tss.c"),
    ("ON_EXIT", "on_exit.c"),
    ("TIMER_THREAD", "timer_thread.c"),
    ("TIMER_NONE", "timer_none.c"),
    ("SIGACTION", "sigaction.c"),
    ("SIGNAL", "signal.c"),
];

fn main() {
    let chosen = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    let file = SOURCES.iter().find(|(feature, _)| chosen(feature));
    let (_, file) = file.expect("one of the features that choose a file");
    let mut build = cc::Build::new();
    if file.ends_with(".cpp") {
        build.cpp(true).std("c++17");
    }
    build.file(format!("native/{file}")).compile("native");
    println!("cargo::rerun-if-changed=native");
}
