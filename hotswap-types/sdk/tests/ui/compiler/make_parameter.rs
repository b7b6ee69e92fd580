#[hotswap_sdk::interface]
trait Rules {
    fn limit(&self) -> u32;
}

struct MyRules;

impl MyRules {
    fn new(_: std::sync::Arc<dyn Rules>) -> Self {
        Self
    }
}

#[hotswap_sdk::plugin(make = MyRules::new)]
impl Rules for MyRules {
    fn limit(&self) -> u32 {
        1
    }
}

fn main() {}
