//! A plugin whose every allocation is by an allocator of its own, on threads of the host and on one of its own.

use std::thread;

#[cfg(feature = "unloadable")]
hotswap_unload::unloadable!();
support::plugin!(work);

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn work(text: &str) -> Result<String, String> {
    // Made here and freed there.
    let lines: Vec<String> = (0..200).map(|number| format!("{text} {number}")).collect();
    let count = thread::spawn(move || lines.iter().map(String::len).sum::<usize>()).join();
    Ok(format!(
        "{} {text}",
        count.map_err(|_| "the thread has panicked")?
    ))
}
