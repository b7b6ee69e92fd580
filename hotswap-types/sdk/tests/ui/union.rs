#[hotswap_sdk::data]
union Number {
    integer: u64,
    float: f64,
}

fn main() {}
