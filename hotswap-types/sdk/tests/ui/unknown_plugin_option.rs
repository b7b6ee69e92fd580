#[hotswap_sdk::interface]
trait Counter {
    fn count(&self) -> u64;
}

struct Plugin;

#[hotswap_sdk::plugin(new = Plugin)]
impl Counter for Plugin {
    fn count(&self) -> u64 {
        1
    }
}

fn main() {}
