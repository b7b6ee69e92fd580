#[hotswap_sdk::interface]
trait Store<T> {
    fn put(&self, value: T);
}

fn main() {}
