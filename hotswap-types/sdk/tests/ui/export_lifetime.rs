#[hotswap_sdk::export]
fn answer<'a>(value: &'a str) -> &'a str {
    value
}

fn main() {}
