struct Verdict {
    reason: String,
}

#[hotswap_sdk::function]
type Judge = fn(order: u64) -> Verdict;

fn main() {}
