#[hotswap_sdk::interface]
trait Caller {
    fn call_back(&self, callback: Box<dyn Fn(u64) + Send>);
}

fn main() {}
