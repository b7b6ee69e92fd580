#[hotswap_sdk::interface]
trait Parser {
    fn first<'a>(&self, text: &'a str) -> &'a str;
}

fn main() {}
