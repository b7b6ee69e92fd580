use std::{
    rc::Rc,
    sync::{Arc, Mutex},
};

#[hotswap_sdk::interface]
trait Session {
    fn user(&self) -> String;
}

#[hotswap_sdk::interface]
trait Service1 {
    fn name(&self) -> Arc<str>;
}

#[hotswap_sdk::interface]
trait Service2 {
    fn lines(&self, lines: Rc<Vec<String>>);
}

#[hotswap_sdk::interface]
trait Service3 {
    fn open(&self) -> Arc<dyn Session>;
}

#[hotswap_sdk::interface]
trait Service4 {
    fn count(&self) -> Mutex<u64>;
}

fn main() {}
