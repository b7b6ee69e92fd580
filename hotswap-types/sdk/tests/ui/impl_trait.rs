#[hotswap_sdk::interface]
trait Lister {
    fn list(&self) -> impl Iterator<Item = u64>;
}

fn main() {}
