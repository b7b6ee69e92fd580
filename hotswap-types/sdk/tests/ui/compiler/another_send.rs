use std::cell::Cell;

mod own {
    pub trait Send {}
    pub trait Sync {}

    impl<T> Send for T {}
    impl<T> Sync for T {}
}

use own::{Send, Sync};

#[hotswap_sdk::interface]
trait Counter: Send + Sync {
    fn count(&self) -> u64;
}

struct NotSync(Cell<u64>);

impl Counter for NotSync {
    fn count(&self) -> u64 {
        self.0.replace(self.0.get() + 1)
    }
}

fn main() {}
