#[hotswap_sdk::interface]
trait Named {
    fn name(&self) -> Option<&'static str>;
}

fn main() {}
