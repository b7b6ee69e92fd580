#[hotswap_sdk::export]
extern "C" fn answer() -> u64 {
    42
}

fn main() {}
