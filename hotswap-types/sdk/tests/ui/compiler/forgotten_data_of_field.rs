struct Line;

#[hotswap_sdk::data]
struct Order {
    lines: Vec<Line>,
}

fn main() {}
