#[hotswap_sdk::interface]
trait Session {
    fn user(&self) -> String;
}

#[hotswap_sdk::data]
struct Opened {
    number: u64,
    session: Box<dyn Session>,
}

fn main() {}
