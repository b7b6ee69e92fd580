//! A plugin without anything of its own, to be called and to be measured.

use interface::{Parcel, Postage};

#[derive(Default)]
struct MyPostage;

#[hotswap_sdk::plugin]
impl Postage for MyPostage {
    fn cents(&self, parcel: &Parcel) -> Result<u64, String> {
        match parcel.grams {
            0..=2000 => Ok(450),
            grams => Err(format!("{grams} g to {} is too heavy", parcel.country)),
        }
    }
}
