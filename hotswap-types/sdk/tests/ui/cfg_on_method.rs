#[hotswap_sdk::interface]
pub trait Rules {
    fn judge(&self) -> u32;
    #[cfg(feature = "audit")]
    fn audit(&self) -> u32;
}

fn main() {}
