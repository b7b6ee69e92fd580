#[hotswap_sdk::interface]
trait Counter {
    fn count(&self) -> u64;
}

struct Plugin(u64);

#[hotswap_sdk::plugin]
impl Counter for Plugin {
    fn count(&self) -> u64 {
        self.0
    }
}

fn main() {}
