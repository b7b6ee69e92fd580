use hotswap_sdk::expansion;

#[hotswap_sdk::interface]
trait Counter {
    fn count(&self) -> u64;
}

#[derive(Default)]
struct Plugin(u64);

#[hotswap_sdk::plugin]
impl Counter for Plugin {
    fn count(&self) -> u64 {
        __only_one_plugin_in_a_crate();
        expansion::end::<Self>();
        self.0
    }
}

fn main() {}
