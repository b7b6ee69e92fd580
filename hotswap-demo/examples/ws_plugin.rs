//! A plugin of the example `ws_server` whose answers take time. Each generation has a tokio runtime of its own, so that
//! timers and sockets work in it; a swap leaves the answers that are under way to the generation that began them.
//!
//! ```sh
//! cargo build -p hotswap-demo --examples
//! cargo run -p hotswap-demo --example ws_server -- target/debug/examples/libws_plugin.so --config 127.0.0.1:7
//! ```
//!
//! `sleep 500` is answered after 500 ms, `ask hello` by whatever the server at the address in `--config` says to the
//! line `hello`, and anything else at once. What it logs, the server writes with `--log ws_plugin=info`.

use std::{error::Error, io, net::SocketAddr, time::Duration};

use hotswap_sdk::Config;
use hotswap_types::Plugin;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::sleep,
};
use tracing::{info, warn};

struct Patient {
    /// Which server is asked, if any.
    other: Option<SocketAddr>,
}

impl Patient {
    fn new(config: Config) -> Result<Self, String> {
        let address = match config.text()?.trim() {
            "" => None,
            text => {
                let address = text.parse();
                Some(address.map_err(|_| format!("the configuration is no address: {text}"))?)
            }
        };
        Ok(Self { other: address })
    }

    async fn ask(&self, question: &str) -> Result<String, String> {
        let other = self
            .other
            .ok_or("there is no server to ask: give its address with --config")?;
        let answer = ask(other, question).await;
        answer.map_err(|error| {
            warn!(%other, error = &error as &dyn Error, "no answer");
            format!("{other}: {error}")
        })
    }
}

#[hotswap_sdk::plugin(make = Patient::new, runtime = "tokio")]
impl Plugin for Patient {
    fn some_data(&self) -> String {
        "a plugin that takes its time".to_owned()
    }

    fn some_fn(&self, number: i64) -> String {
        number.to_string()
    }

    fn process(&self, text: &str) -> Result<String, String> {
        Ok(format!("You said '{text}'"))
    }

    async fn answer(&self, text: String) -> Result<String, String> {
        info!(bytes = text.len(), "asked");
        match text.split_once(' ') {
            Some(("sleep", milliseconds)) => {
                let milliseconds = milliseconds.parse();
                let milliseconds = milliseconds.map_err(|_| "how many milliseconds?")?;
                sleep(Duration::from_millis(milliseconds)).await;
                Ok(format!("slept {milliseconds} ms"))
            }
            Some(("ask", question)) => self.ask(question).await,
            _ => self.process(&text),
        }
    }
}

/// Sends a line, and returns the line that comes back.
async fn ask(other: SocketAddr, question: &str) -> io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(other).await?);
    stream.write_all(format!("{question}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    Ok(answer.trim_end().to_owned())
}
