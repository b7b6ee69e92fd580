#[hotswap_sdk::data]
pub struct Order {
    pub id: u64,
    #[data(default = price())]
    pub price: u64,
}

unsafe fn price() -> u64 {
    0
}

fn main() {}
