#[hotswap_sdk::interface]
trait Copier {
    fn copy(&self) -> Box<Self>;
}

fn main() {}
