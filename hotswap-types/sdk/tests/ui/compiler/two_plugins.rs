#[hotswap_sdk::interface]
trait Counter {
    fn count(&self) -> u64;
}

#[derive(Default)]
struct One;

#[derive(Default)]
struct Two;

#[hotswap_sdk::plugin]
impl Counter for One {
    fn count(&self) -> u64 {
        1
    }
}

#[hotswap_sdk::plugin]
impl Counter for Two {
    fn count(&self) -> u64 {
        2
    }
}

fn main() {}
