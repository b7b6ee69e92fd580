//! `thread::current()`, which leaves a pthread key whose destructor lies in the image.

use std::thread;

#[cfg(feature = "unloadable")]
hotswap_unload::unloadable!();
support::plugin!(work);

fn work(text: &str) -> Result<String, String> {
    Ok(format!("{:?} {text}", thread::current().id()))
}
