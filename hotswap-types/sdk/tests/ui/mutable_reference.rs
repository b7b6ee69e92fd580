#[hotswap_sdk::interface]
trait Filler {
    fn fill(&self, buffer: &mut Vec<u8>);
}

fn main() {}
