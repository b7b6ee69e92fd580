struct Clerk;

impl Clerk {
    #[hotswap_sdk::export]
    fn answer(&self) -> u64 {
        42
    }
}

fn main() {}
