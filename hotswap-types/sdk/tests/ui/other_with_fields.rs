#[hotswap_sdk::data]
enum Verdict {
    Accept,
    #[data(other)]
    Other(String),
}

fn main() {}
