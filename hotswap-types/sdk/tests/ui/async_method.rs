#[hotswap_sdk::interface]
trait Finder {
    async fn find(&self, key: String) -> String;
}

fn main() {}
