#[hotswap_sdk::export]
async fn answer() -> u64 {
    42
}

fn main() {}
