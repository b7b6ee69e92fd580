//! How does one load a single function from any file, and what does it say when that is not the function one expects?
//!
//! ```sh
//! cargo build && cargo run -p hotswap-demo --example module_loader -- target/debug/libplugin.so greet
//! ```
//!
//! Loads the function, calls it, drops it, and does so again at each Enter, until the end of the input. `--list` says
//! which functions the file exports, and of which types.

use std::{
    io::{self, BufRead},
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::Parser;
use hotswap_core::{
    Policy, Trial, Trust,
    loader::{Library, Loader, LoaderSettings},
    text::printable,
};
use hotswap_types::Greet;

/// Loads a function from a file again and again, and calls it
#[derive(Parser)]
struct Options {
    /// The file
    path: PathBuf,

    /// The function, of the type `hotswap_types::Greet`
    #[arg(required_unless_present = "list")]
    function: Option<String>,

    /// Only say which functions the file exports
    #[arg(long)]
    list: bool,

    /// Load the file in a child process first
    #[arg(long)]
    trial: bool,

    /// Do not look at who owns and who can write the file and the folders that lead to it
    #[arg(long)]
    any_owner: bool,
}

fn main() -> Result<()> {
    let trial = Trial::of_libraries_at_top_of_main(probe);
    let options = Options::parse();
    let policy = Policy {
        any_owner: options.any_owner,
        ..Policy::default()
    };
    // SAFETY: whoever runs the example vouches for the file.
    let trust = unsafe { Trust::vouch(policy) };
    let settings = LoaderSettings {
        trial: options.trial.then_some(trial),
        ..LoaderSettings::default()
    };
    let loader = Loader::with_settings(&trust, settings)?;

    let Some(name) = options.function.filter(|_| !options.list) else {
        for function in loader.open(&options.path)?.functions() {
            println!("{function}");
        }
        return Ok(());
    };
    let mut lines = io::stdin().lock().lines();
    loop {
        println!("Loading: {}", printable(&options.path.to_string_lossy()));
        match loader.function::<Greet>(&options.path, &name) {
            Ok(greet) => match greet.call("Rust") {
                Ok(text) => println!("{}", printable(&text)),
                Err(fault) => println!("{name}: {}", printable(&fault.to_string())),
            },
            Err(error) => println!("{error}"),
        }
        println!("Press Enter to load it again");
        if lines
            .next()
            .transpose()
            .context("standard input")?
            .is_none()
        {
            return Ok(());
        }
    }
}

/// Calls all that could be called later.
fn probe(library: &Library) -> Result<(), String> {
    for function in library.functions() {
        if let Ok(greet) = library.function::<Greet>(&function.name) {
            greet.call("probe").map_err(|fault| fault.to_string())?;
        }
    }
    Ok(())
}
