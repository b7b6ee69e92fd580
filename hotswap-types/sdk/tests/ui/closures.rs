#[hotswap_sdk::interface]
trait Service1 {
    fn call_back(&self, callback: Box<dyn Fn(u64) + Send>);
}

#[hotswap_sdk::interface]
trait Service2 {
    fn next(&self) -> Box<dyn FnOnce() -> u64>;
}

#[hotswap_sdk::interface]
trait Service3 {
    fn call_back(&self, callback: &dyn Fn(u64));
}

#[hotswap_sdk::interface]
trait Service4 {
    fn list(&self) -> Box<dyn Iterator<Item = u64>>;
}

#[hotswap_sdk::interface]
trait Service5 {
    fn find(&self) -> std::pin::Pin<Box<dyn Future<Output = u64>>>;
}

fn main() {}
