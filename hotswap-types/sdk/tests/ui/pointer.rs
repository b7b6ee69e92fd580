#[hotswap_sdk::interface]
trait Writer {
    fn write(&self, to: *mut u8);
}

fn main() {}
