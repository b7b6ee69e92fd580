//! Whatever the bytes: no inspection takes long, and they may lie anywhere.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::{
    ROOT, X86,
    fixture::{Library, X86_64, string},
    inspect, refusal,
};

#[test]
fn no_file_takes_long() {
    // Every needed version leads into one long chain of versions.
    let mut versions = Library::new(&X86_64);
    let start = versions.bytes.len();
    let entries = 100_000;
    for number in 0..entries {
        versions
            .bytes
            .extend([1u16, 1].map(u16::to_ne_bytes).concat());
        let next = if number + 1 == entries { 0 } else { 16 };
        versions.bytes.extend(
            [string("libc.so.6"), 16, next]
                .map(u32::to_ne_bytes)
                .concat(),
        );
    }
    let end = (versions.bytes.len() - 0x2000) as u64;
    versions.set64("data", 32, end).set64("data", 40, end);
    versions.value("verneed", start as u64 + 0x1000);
    let begin = processor_time();
    assert_eq!(
        refusal(&versions.bytes, ROOT),
        "more than 65536 symbol versions"
    );
    // Every bucket leads into one long chain of symbols.
    let mut hash = Library::with_old_hash(&X86_64);
    let start = hash.bytes.len();
    let (buckets, symbols) = (100_000u32, 100_000u32);
    hash.bytes
        .extend([buckets, symbols].map(u32::to_ne_bytes).concat());
    hash.bytes
        .extend((0..buckets).flat_map(|_| 1u32.to_ne_bytes()));
    hash.bytes
        .extend((1..=symbols).flat_map(|next| (next % symbols).to_ne_bytes()));
    let end = (hash.bytes.len() - 0x2000) as u64;
    hash.set64("data", 32, end).set64("data", 40, end);
    hash.value("hash", start as u64 + 0x1000);
    assert!(refusal(&hash.bytes, ROOT).starts_with("symbol table (DT_SYMTAB) at 0x280"));
    // A quadratic walk of either takes minutes.
    let took = processor_time() - begin;
    assert!(took < Duration::from_secs(5), "took {took:?}");
}

/// How long this thread has run, which does not depend on what else the machine does.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

#[test]
fn bytes_may_lie_at_any_address() {
    let library = Library::new(&X86_64);
    for shift in 0..8 {
        let moved = [vec![0; shift], library.bytes.clone()].concat();
        inspect(&moved[shift..], ROOT, X86).unwrap();
    }
}
