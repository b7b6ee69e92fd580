trait Session: Send + Sync {}

#[hotswap_sdk::interface]
trait Service {
    fn open(&self) -> Box<dyn Session>;
    fn all(&self) -> Vec<Box<dyn Session>>;
}

fn main() {}
