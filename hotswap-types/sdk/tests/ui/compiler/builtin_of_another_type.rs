#[hotswap_sdk::interface]
trait Counter {
    fn count(&self) -> u64;
}

struct Other;

fn builtin<I: hotswap_sdk::host::BuiltIn<T> + ?Sized, T>(_: T) {}

fn main() {
    builtin::<dyn Counter, _>(Other);
}
