#[hotswap_sdk::function]
type Echo = for<'a> fn(&'a str) -> &'a str;

fn main() {}
