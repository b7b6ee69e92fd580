#[hotswap_sdk::interface]
trait Named {
    fn name(&self) -> &str;
}

fn main() {}
