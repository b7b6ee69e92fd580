use std::io::Error;

#[hotswap_sdk::interface]
trait Service {
    fn judge(&self) -> Result<u32, Error>;
}

fn main() {}
