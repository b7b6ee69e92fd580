#[hotswap_sdk::interface]
trait Rules {
    async fn limit(&self) -> u32;
}

#[derive(Default)]
struct NoSuchRuntime;

#[hotswap_sdk::plugin(runtime = "smol")]
impl Rules for NoSuchRuntime {
    async fn limit(&self) -> u32 {
        1
    }
}

#[derive(Default)]
struct OnlyThreads;

#[hotswap_sdk::plugin(runtime_threads = 2)]
impl Rules for OnlyThreads {
    async fn limit(&self) -> u32 {
        1
    }
}

#[derive(Default)]
struct NoThreads;

#[hotswap_sdk::plugin(runtime = "tokio", runtime_threads = 0)]
impl Rules for NoThreads {
    async fn limit(&self) -> u32 {
        1
    }
}

#[derive(Default)]
struct OneThread;

#[hotswap_sdk::plugin(runtime = "tokio_current_thread", runtime_threads = 2)]
impl Rules for OneThread {
    async fn limit(&self) -> u32 {
        1
    }
}

fn main() {}
