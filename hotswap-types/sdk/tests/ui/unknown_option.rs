#[hotswap_sdk::data]
struct Order {
    #[data(optional)]
    count: u32,
}

fn main() {}
