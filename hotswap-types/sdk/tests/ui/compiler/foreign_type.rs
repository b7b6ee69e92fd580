use std::rc::Rc;

#[hotswap_sdk::data]
struct Order {
    name: Rc<str>,
}

fn main() {}
