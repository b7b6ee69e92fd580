use std::borrow::Cow;

#[hotswap_sdk::interface]
trait Service1 {
    fn name(&self) -> Cow<'static, str>;
}

#[hotswap_sdk::interface]
trait Service2 {
    fn name(&self, name: Cow<str>);
}

#[hotswap_sdk::interface]
trait Service3 {
    fn name(&self) -> Box<str>;
}

#[hotswap_sdk::interface]
trait Service4 {
    fn bytes(&self) -> Option<Box<[u8]>>;
}

fn main() {}
