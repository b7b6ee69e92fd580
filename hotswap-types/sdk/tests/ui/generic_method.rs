#[hotswap_sdk::interface]
trait Shower {
    fn show<T: ToString>(&self, value: T) -> String;
}

fn main() {}
