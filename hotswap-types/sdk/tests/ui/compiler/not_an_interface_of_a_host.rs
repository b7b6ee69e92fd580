trait Counter: Send + Sync {
    fn count(&self) -> u64;
}

fn host<I: hotswap_sdk::host::Interface + ?Sized>() {}

fn main() {
    host::<dyn Counter>();
    host::<String>();
}
