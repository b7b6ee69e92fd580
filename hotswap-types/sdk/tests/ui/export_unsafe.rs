#[hotswap_sdk::export]
unsafe fn answer() -> u64 {
    42
}

fn main() {}
