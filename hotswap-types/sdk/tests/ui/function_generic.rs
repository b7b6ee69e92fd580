#[hotswap_sdk::function]
type Answer<T> = fn() -> T;

fn main() {}
