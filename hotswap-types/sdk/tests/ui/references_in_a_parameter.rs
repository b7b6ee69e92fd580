#[hotswap_sdk::interface]
trait Service1 {
    fn join(&self, parts: &[&str]) -> String;
}

#[hotswap_sdk::interface]
trait Service2 {
    fn join(&self, parts: Vec<&str>) -> String;
}

#[hotswap_sdk::interface]
trait Service3 {
    fn name(&self, pair: (&str, u32)) -> String;
}

#[hotswap_sdk::interface]
trait Service4 {
    fn name(&self, pair: &(&str, &[u8])) -> String;
}

#[hotswap_sdk::interface]
trait Service5 {
    fn name(&self, path: Result<&std::path::Path, Option<&Vec<u8>>>) -> String;
}

#[hotswap_sdk::interface]
trait Service6 {
    fn fill(&self, buffer: Option<&mut Vec<u8>>);
}

fn main() {}
