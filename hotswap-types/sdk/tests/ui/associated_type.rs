#[hotswap_sdk::interface]
trait Store {
    type Key;

    fn has(&self, key: Self::Key) -> bool;
}

fn main() {}
