#[hotswap_sdk::export]
fn answer() -> u64 {
    42
}

#[hotswap_sdk::export]
fn answer() -> u64 {
    43
}

fn main() {}
