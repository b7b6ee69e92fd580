#[hotswap_sdk::export]
#[target_feature(enable = "aes")]
fn sum(numbers: &[u32]) -> u32 {
    numbers.iter().sum()
}

fn main() {}
