#[hotswap_sdk::data]
struct Order<'a> {
    name: &'a str,
}

fn main() {}
