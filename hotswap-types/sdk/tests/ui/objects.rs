use std::collections::HashMap;

#[hotswap_sdk::interface]
trait Session {
    fn user(&self) -> String;
}

#[hotswap_sdk::interface]
trait Service1 {
    fn open(&self) -> Box<dyn Session + Send>;
}

#[hotswap_sdk::interface]
trait Service2 {
    fn open(&self) -> dyn Session;
}

#[hotswap_sdk::interface]
trait Service3 {
    fn take(&self, session: &dyn Session);
}

#[hotswap_sdk::interface]
trait Service4 {
    fn take(&self, sessions: &[Box<dyn Session>]);
}

#[hotswap_sdk::interface]
trait Service5 {
    fn open(&self) -> HashMap<String, Box<dyn Session>>;
}

#[hotswap_sdk::interface]
trait Service6 {
    fn open(&self) -> [Box<dyn Session>; 2];
}

fn main() {}
