#[hotswap_sdk::function]
type Answer = unsafe extern "C" fn() -> u64;

fn main() {}
