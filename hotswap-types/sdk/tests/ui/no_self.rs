#[hotswap_sdk::interface]
trait Counter {
    fn version() -> u32;
}

fn main() {}
