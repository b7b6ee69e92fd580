#[hotswap_sdk::interface]
trait Caller {
    fn call_back(&self, callback: fn(u64));
}

fn main() {}
