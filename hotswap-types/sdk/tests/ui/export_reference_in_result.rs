#[hotswap_sdk::export]
fn motto() -> &'static str {
    "early and often"
}

fn main() {}
