struct Verdict;

#[hotswap_sdk::interface]
trait Rules {
    async fn judge(&self, order: u64) -> Verdict;
}

fn main() {}
