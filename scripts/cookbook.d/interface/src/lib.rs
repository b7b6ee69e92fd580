//! What the hosts call and the plugin implements.

use hotswap_sdk::{data, interface};

#[data]
pub struct Parcel {
    pub grams: u32,
    pub country: String,
}

#[interface]
pub trait Postage {
    /// The price in cents.
    fn cents(&self, parcel: &Parcel) -> Result<u64, String>;
}
