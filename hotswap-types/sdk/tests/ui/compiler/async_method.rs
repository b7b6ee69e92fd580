#[hotswap_sdk::interface]
trait Counter {
    async fn count(&self) -> u64;
}

struct Local;

#[hotswap_sdk::interface]
impl Counter for Local {
    async fn count(&self) -> u64 {
        let shared = std::rc::Rc::new(1);
        std::future::ready(()).await;
        *shared
    }
}

struct WithoutAttribute;

impl Counter for WithoutAttribute {
    async fn count(&self) -> u64 {
        1
    }
}

fn main() {}
