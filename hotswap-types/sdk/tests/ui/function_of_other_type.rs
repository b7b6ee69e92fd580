#[hotswap_sdk::function]
type Answer = u64;

fn main() {}
