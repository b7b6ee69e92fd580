struct Plugin;

#[hotswap_sdk::plugin]
impl Plugin {
    fn count(&self) -> u64 {
        1
    }
}

fn main() {}
