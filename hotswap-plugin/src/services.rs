//! What the plugin keeps running, and what it keeps, while it is replaced. The demo's example `services` turns that
//! on; edit this while it runs, then:
//!
//! ```sh
//! cargo build
//! ```

use std::{
    fs,
    time::{Duration, Instant},
};

use abi_stable::{StableAbi, std_types::RVec};
use hotswap_sdk::Update;

/// What is printed with each number.
const WORD: &str = "blah";

/// How fast the numbers come. A value of this type is kept; so when the type changes, a plugin that asks for it is
/// refused, until it says in `update` how the new one is made of the old one, which is kept in a module `before`:
///
/// ```text
/// update.migrate_ref("pace", |old: &before::Pace| Ok(Pace { pause_ms: old.pause_ms, step: 1 }))?;
/// ```
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) pause_ms: u64,
}

/// Something that takes a while to make: how many words of each length there are in a large file.
#[repr(C)]
#[derive(StableAbi)]
pub(crate) struct Table {
    words_of_length: RVec<u64>,
    took_ms: u64,
}

/// Says what should run, and which values there should be. The host runs it before this plugin takes over.
pub(crate) fn update(update: &mut Update<'_>) -> Result<(), String> {
    let table = update.create_ref("table", Table::make)?;
    let pace = update.create_ref("pace", || Pace { pause_ms: 500 })?;
    let numbers = update.channel::<u64>("numbers", 16)?;
    let words: u64 = table.words_of_length.iter().sum();
    println!("table: {words} words, counted once in {} ms", table.took_ms);

    // Runs on through all swaps, on the code that it began with.
    let sender = numbers.clone();
    update.start("producer", move |stop| {
        let mut n = 0;
        while sender.send(n, stop).is_ok() && stop.sleep(Duration::from_millis(pace.pause_ms)) {
            n += 1;
        }
    })?;

    // On new code after each swap.
    update.restart("consumer", move |stop| {
        while let Some(n) = numbers.receive(stop) {
            println!("{:?}", (n, WORD));
        }
    })
}

impl Table {
    /// The program itself is a large file that is always there.
    fn make() -> Self {
        let started = Instant::now();
        let bytes = fs::read("/proc/self/exe").expect("it runs");
        let mut words_of_length = vec![0; 64];
        for word in bytes.split(|byte| !byte.is_ascii_alphanumeric()) {
            words_of_length[word.len().min(63)] += u64::from(!word.is_empty());
        }
        Self {
            words_of_length: words_of_length.into(),
            took_ms: started.elapsed().as_millis() as u64,
        }
    }
}
