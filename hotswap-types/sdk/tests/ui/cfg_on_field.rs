#[hotswap_sdk::data]
pub struct Order {
    pub id: u64,
    #[cfg(feature = "audit")]
    pub by: String,
}

fn main() {}
