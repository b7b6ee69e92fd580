#[hotswap_sdk::interface]
trait Counter {
    fn count(&self) -> u64;
}

#[derive(Default)]
struct Plugin<T>(T);

#[hotswap_sdk::plugin]
impl<T: Send + Sync> Counter for Plugin<T> {
    fn count(&self) -> u64 {
        1
    }
}

fn main() {}
