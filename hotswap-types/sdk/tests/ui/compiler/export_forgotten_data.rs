struct Order {
    id: u64,
}

#[hotswap_sdk::export]
fn judge(order: &Order) -> bool {
    order.id > 0
}

fn main() {}
