#[hotswap_sdk::data]
struct Order {
    #[data(default)]
    count: u32,
    name: String,
}

fn main() {}
