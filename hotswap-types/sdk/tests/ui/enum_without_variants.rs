#[hotswap_sdk::data]
enum Never {}

fn main() {}
