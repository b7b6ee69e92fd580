#[hotswap_sdk::interface]
trait Counter {
    fn end(self) -> u64;
}

fn main() {}
