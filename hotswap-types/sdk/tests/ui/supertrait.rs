#[hotswap_sdk::interface]
trait Named: std::fmt::Debug {
    fn name(&self) -> String;
}

fn main() {}
