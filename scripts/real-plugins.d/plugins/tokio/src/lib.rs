//! A runtime in a static, with a server on the loopback interface that each call talks to; it is shut down before the
//! plugin is unloaded.

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    time,
};

#[cfg(feature = "unloadable")]
hotswap_unload::unloadable!(before_unload = stop);
support::plugin!(work);

static ECHO: Mutex<Option<Echo>> = Mutex::new(None);

struct Echo {
    runtime: Runtime,
    address: SocketAddr,
}

fn work(text: &str) -> Result<String, String> {
    echoed(text).map_err(|error| error.to_string())
}

fn echoed(text: &str) -> io::Result<String> {
    let (runtime, address) = {
        let mut echo = echo();
        if echo.is_none() {
            *echo = Some(Echo::start()?);
        }
        let echo = echo.as_ref().expect("started above");
        (echo.runtime.handle().clone(), echo.address)
    };
    runtime.block_on(async {
        time::sleep(Duration::from_millis(1)).await;
        let answer = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        time::timeout(Duration::from_secs(5), answer).await?
    })
}

#[cfg(feature = "unloadable")]
fn stop() {
    if let Some(echo) = echo().take() {
        echo.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

fn echo() -> MutexGuard<'static, Option<Echo>> {
    ECHO.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Echo {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        Ok(Self { runtime, address })
    }
}
