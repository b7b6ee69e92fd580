#[hotswap_sdk::export(name = "answer")]
fn other() -> u64 {
    42
}

fn main() {}
