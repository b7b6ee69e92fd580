struct Order {
    id: u64,
}

#[hotswap_sdk::interface]
trait Rules {
    fn judge(&self, order: &Order) -> bool;
}

fn main() {}
