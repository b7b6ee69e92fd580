#[hotswap_sdk::interface]
trait Finder {
    async fn find(&self, key: &str) -> String;
}

#[hotswap_sdk::interface]
trait Sorter {
    async fn sort(&self, first: Option<&[u64]>) -> u64;
}

struct Local;

#[hotswap_sdk::interface]
impl Local {
    async fn other(&self) {}
}

#[hotswap_sdk::interface]
struct NoTrait;

fn main() {}
