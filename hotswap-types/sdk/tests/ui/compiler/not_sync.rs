use std::cell::Cell;

#[hotswap_sdk::interface]
trait Counter {
    fn count(&self) -> u64;
}

#[derive(Default)]
struct Plugin(Cell<u64>);

#[hotswap_sdk::plugin]
impl Counter for Plugin {
    fn count(&self) -> u64 {
        self.0.replace(self.0.get() + 1)
    }
}

fn main() {}
