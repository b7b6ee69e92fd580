#[hotswap_sdk::data]
struct Order {
    name: &'static str,
}

fn main() {}
