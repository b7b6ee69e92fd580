#[hotswap_sdk::export]
fn sort(numbers: &mut Vec<u64>) {
    numbers.sort();
}

fn main() {}
