struct Verdict;

#[hotswap_sdk::interface]
trait Rules {
    fn judge(&self, order: u64) -> Result<Verdict, String>;
}

fn main() {}
