type Name = std::rc::Rc<str>;

#[hotswap_sdk::interface]
trait Service {
    fn name(&self, name: &Name);
}

fn main() {}
