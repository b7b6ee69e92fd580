use std::error::Error;

#[hotswap_sdk::interface]
trait Service1 {
    fn judge(&self) -> Box<dyn Error>;
}

#[hotswap_sdk::interface]
trait Service2 {
    fn judge(&self) -> Result<u32, Box<dyn std::error::Error + Send + Sync>>;
}

#[hotswap_sdk::interface]
trait Service3 {
    fn judge(&self) -> anyhow::Result<u32>;
}

#[hotswap_sdk::interface]
trait Service4 {
    fn judge(&self) -> Result<u32, anyhow::Error>;
}

#[hotswap_sdk::interface]
trait Service5 {
    fn judge(&self) -> std::io::Result<()>;
}

fn main() {}
