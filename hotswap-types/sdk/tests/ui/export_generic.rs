#[hotswap_sdk::export]
fn answer<T: ToString>(value: T) -> String {
    value.to_string()
}

fn main() {}
