#[hotswap_sdk::interface]
trait Joiner {
    fn join(&self, parts: &[&str]) -> String;
}

fn main() {}
