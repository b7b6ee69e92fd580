#[hotswap_sdk::function]
fn answer() -> u64 {
    42
}

fn main() {}
