//! How does one load a single function from any file, and what does it say when that is not the function one expects?
//!
//! ```sh
//! cargo build && cargo run -p hotswap-demo --example module_loader -- target/debug/libplugin.so greet
//! ```
//!
//! Loads the symbol, calls it, drops it, and does so again at each Enter, until the end of the input. `--list` says
//! which symbols the file exports, and of which types.

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
    symbol: Option<String>,

    /// Only say which typed symbols the file exports
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

    let Some(name) = options.symbol.filter(|_| !options.list) else {
        for symbol in loader.open(&options.path)?.symbols() {
            println!("{symbol}");
        }
        return Ok(());
    };
    let mut lines = io::stdin().lock().lines();
    loop {
        println!("Loading: {}", printable(&options.path.to_string_lossy()));
        match loader.load::<Greet>(&options.path, &name) {
            Ok(greet) => match greet.with(|greet| call(greet, "Rust")) {
                Ok(text) => println!("{}", printable(&text)),
                Err(fault) => println!("{name}: {}", printable(&fault)),
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

fn call(greet: &Greet, name: &str) -> Result<String, String> {
    let answer = greet.0(name.into()).into_result().map(String::from);
    answer.map_err(|fault| fault.to_string())
}

/// Calls all that could be called later.
fn probe(library: &Library) -> Result<(), String> {
    for symbol in library.symbols() {
        if let Ok(greet) = library.symbol::<Greet>(&symbol.name) {
            greet.with(|greet| call(greet, "probe"))?;
        }
    }
    Ok(())
}
