#[hotswap_sdk::interface]
trait Counter {
    fn add(&mut self, count: u64);
}

fn main() {}
