#[hotswap_sdk::export]
fn größe() -> u64 {
    42
}

fn main() {}
