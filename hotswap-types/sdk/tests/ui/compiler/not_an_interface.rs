trait Counter: Send + Sync {
    fn count(&self) -> u64;
}

#[derive(Default)]
struct Plugin;

#[hotswap_sdk::plugin]
impl Counter for Plugin {
    fn count(&self) -> u64 {
        1
    }
}

fn main() {}
