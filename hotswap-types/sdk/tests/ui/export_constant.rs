#[hotswap_sdk::export]
const MOTTO: &str = "early and often";

fn main() {}
