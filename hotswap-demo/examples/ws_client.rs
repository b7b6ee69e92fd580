//! A prompt for the example `ws_server`: each line is sent, and its answer is printed.
//!
//! ```sh
//! cargo run -p hotswap-demo --example ws_client -- ws://127.0.0.1:9160/ws
//! ```
//!
//! The server itself answers lines that begin with `:`, such as `:reload`, `:canary 10%` and `:help`.
//!
//! Arrow keys, history and Ctrl-R work as in a shell; Ctrl-D and Ctrl-C end it. Without a terminal it sends the
//! lines of standard input, and prints an answer for each. It ends with 1, and says why, when the server goes away.
//!
//! A thread beside the prompt keeps the connection: it answers the server's pings while nobody types, and says at
//! once when the server has gone.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use hotswap_core::text::printable;
use rustyline::{Config, DefaultEditor, ExternalPrinter, error::ReadlineError};
use tokio::{net::TcpStream, runtime, sync::mpsc};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, Utf8Bytes},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why nothing more comes from the server, if it was not we who ended it.
type Gone = Option<String>;

/// Sends each line to a websocket, and prints the answers
#[derive(Parser)]
#[command(name = "ws_client")]
struct Options {
    /// The websocket
    #[arg(default_value = "ws://127.0.0.1:9160/ws")]
    url: String,
}

fn main() -> Result<ExitCode> {
    let Options { url } = Options::parse();
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (socket, _) = runtime
        .block_on(connect_async(&url))
        .with_context(|| format!("cannot connect to {url}"))?;

    let mut editor = DefaultEditor::with_config(Config::builder().auto_add_history(true).build())?;
    let is_prompt = io::stdin().is_terminal();
    let mut printer = is_prompt
        .then(|| editor.create_external_printer())
        .transpose()?;
    // One line is on its way at a time.
    let (lines, to_send) = mpsc::channel(1);
    let (answer, mut answers) = mpsc::channel(1);
    let talk = runtime.spawn(async move {
        let gone = talk(socket, to_send, answer).await;
        if let Some(gone) = gone.as_deref().map(printable) {
            // Above the prompt, if there is one.
            match &mut printer {
                Some(printer) => drop(printer.print(format!("{gone}\n"))),
                None => eprintln!("{gone}"),
            }
        }
        // The editor discards what it has not shown yet when the last printer is dropped, so this one is kept.
        (gone.is_some(), printer)
    });
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => break,
            Err(error) => return Err(error).context("standard input cannot be read"),
        };
        if lines.blocking_send(line).is_err() {
            break;
        }
        let Some(answer) = answers.blocking_recv() else {
            break;
        };
        // Whoever does not read the answers wants no more of them.
        if writeln!(io::stdout(), "{}", printable(&answer)).is_err() {
            break;
        }
    }
    drop(lines);
    let (has_gone, _printer) = runtime.block_on(talk)?;
    Ok(if has_gone {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Sends the lines and hands on the answers, until there are no more lines or no server.
async fn talk(
    mut socket: Socket,
    mut lines: mpsc::Receiver<String>,
    answers: mpsc::Sender<Utf8Bytes>,
) -> Gone {
    loop {
        let message = tokio::select! {
            line = lines.recv() => match line {
                Some(line) => match socket.send(Message::text(line)).await {
                    Ok(()) => continue,
                    Err(error) => return Some(format!("the server has gone away: {error}")),
                },
                None => {
                    // Whether the server still hears of it makes no difference.
                    let _ = socket.close(None).await;
                    while let Some(Ok(_)) = socket.next().await {}
                    return None;
                }
            },
            message = socket.next() => message,
        };
        match message {
            // Without anybody to take it, there will be no more lines, either.
            Some(Ok(Message::Text(answer))) => drop(answers.send(answer).await),
            Some(Ok(Message::Close(Some(close)))) => {
                return Some(format!(
                    "the server has closed the connection: {}",
                    close.reason
                ));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Some(format!("the server has gone away: {error}")),
            None => return Some("the server has gone away".to_owned()),
        }
    }
}
