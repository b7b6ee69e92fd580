//! A build of a plugin whose function `work_NUMBER` takes a few milliseconds.

use hotswap_types::Plugin;

#[derive(Default)]
struct Build;

#[hotswap_sdk::plugin]
impl Plugin for Build {
    fn some_data(&self) -> String {
        "build NUMBER".to_owned()
    }

    fn some_fn(&self, number: i64) -> String {
        work_NUMBER(number).to_string()
    }

    fn process(&self, _: &str) -> Result<String, String> {
        Err("not of this build".to_owned())
    }
}

#[inline(never)]
fn work_NUMBER(number: i64) -> i64 {
    let mut sum = number;
    for round in 0..100_000 {
        sum = sum.wrapping_mul(3) ^ round;
    }
    std::hint::black_box(sum)
}
