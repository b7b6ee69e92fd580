//! One websocket: its messages are answered one after the other, so that answers keep their order.
//!
//! Nothing piles up for a client: the next message is read when the answer to the one before is sent, also to a ping,
//! and who does not read is disconnected. Whatever goes wrong here ends this connection and no other.

use std::{future, ops::ControlFlow, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::broadcast::{self, error::RecvError},
    time::{MissedTickBehavior, error::Elapsed, interval, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::{
    command::{self, Request},
    service::{Answer, MESSAGE_BYTES_MAX, Service, Subscription, json},
    signals::Stop,
};

/// How a client wants to be answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The plugin's text, and nothing else
    Text,
    /// Objects, and what changes on the server between them
    Json,
}

/// An answer as an object.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Reply<'a> {
    /// The plugin's
    Answer { generation: u64, text: &'a str },
    /// The plugin's error
    Fault { generation: u64, text: &'a str },
    /// The host's, to a command
    Command { refused: bool, text: &'a str },
}

/// Why a connection ends.
enum End {
    /// There is no use in sending anything.
    Gone,
    /// The client is told why.
    Close(CloseCode, String),
}

/// Goes on, or ends the connection.
type Step = ControlFlow<End>;

struct Connection<'a> {
    socket: WebSocketStream<TcpStream>,
    service: &'a Arc<Service>,
    /// All its messages are answered by one side of a canary, as long as the share stays.
    number: u64,
    form: Form,
    patience: Duration,
    /// Only with [`Form::Json`].
    pushes: Option<broadcast::Receiver<Utf8Bytes>>,
    /// Nothing has come from the client since it was asked for a sign of life.
    is_quiet: bool,
}

/// Serves one client until it goes, does something that is not allowed, or there is a stop.
pub(crate) async fn serve(
    socket: WebSocketStream<TcpStream>,
    form: Form,
    service: &Arc<Service>,
    patience: Duration,
    stop: Stop,
) {
    let mut connection = Connection {
        socket,
        service,
        number: service.number_connection(),
        form,
        patience,
        pushes: None,
        is_quiet: false,
    };
    let end = connection.run(stop).await;
    connection.end(end).await;
}

impl Connection<'_> {
    async fn run(&mut self, mut stop: Stop) -> End {
        if self.form == Form::Json
            && let ControlFlow::Break(end) = self.say_hello().await
        {
            return end;
        }
        let mut looks = interval(self.patience);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.reset();
        loop {
            let step = tokio::select! {
                message = self.socket.next() => self.take(message).await,
                push = next(&mut self.pushes) => match push {
                    Ok(push) => self.send(push).await,
                    // It was too slow for them.
                    Err(_) => self.say_hello().await,
                },
                _ = looks.tick() => self.look().await,
                () = stop.asked() => return End::Close(CloseCode::Away, "the server ends".to_owned()),
            };
            if let ControlFlow::Break(end) = step {
                return end;
            }
        }
    }

    async fn take(&mut self, message: Option<Result<Message, Error>>) -> Step {
        self.is_quiet = false;
        match message {
            Some(Ok(Message::Text(text))) => match command::parse(&text) {
                Some(command) => self.obey(command).await,
                None => self.answer(text.as_str().to_owned()).await,
            },
            Some(Ok(Message::Binary(_))) => Step::Break(End::Close(
                CloseCode::Unsupported,
                "only text messages are answered".to_owned(),
            )),
            Some(Ok(Message::Ping(_))) => self.send_pong().await,
            // After a close the library says that there is nothing more.
            Some(Ok(_)) => Step::Continue(()),
            Some(Err(error)) => Step::Break(end_after(&error)),
            None => Step::Break(End::Gone),
        }
    }

    /// Asks the plugin. The choice is kept across the sending: the generation that the client is told of is mapped
    /// until it has been told, or until its patience has run out.
    async fn answer(&mut self, message: String) -> Step {
        let answer = self.service.answer(self.number, message, self.patience);
        let Answer { chosen, text } = answer.await;
        let generation = chosen.generation();
        let reply = match (self.form, &text) {
            (Form::Text, Ok(text)) => text.as_str().into(),
            (Form::Text, Err(fault)) => format!("fault generation {generation}: {fault}").into(),
            (Form::Json, Ok(text)) => json(&Reply::Answer { generation, text }),
            (Form::Json, Err(fault)) => json(&Reply::Fault {
                generation,
                text: fault,
            }),
        };
        let sent = self.send(reply).await;
        drop(chosen);
        sent
    }

    /// Does what the server does itself. An error: it is no command.
    async fn obey(&mut self, command: Result<Request, String>) -> Step {
        let outcome = match command {
            Ok(Request::Reload) => self.service.reload().await,
            Ok(Request::Rollback) => self.service.roll_back().await,
            Ok(Request::Canary(share)) => self.service.start_canary(share).await,
            Ok(Request::Share(share)) => self.service.give_share(share).await,
            Ok(Request::Rollout) => self.service.roll_out().await,
            Ok(Request::Promote) => self.service.promote().await,
            Ok(Request::Abandon) => self.service.abandon().await,
            Ok(Request::Help) => Ok(command::help()),
            Err(unknown) => Err(unknown),
        };
        let refused = outcome.is_err();
        let text = outcome.unwrap_or_else(|why| why);
        let reply = match self.form {
            Form::Text => text.into(),
            Form::Json => json(&Reply::Command {
                refused,
                text: &text,
            }),
        };
        self.send(reply).await
    }

    async fn say_hello(&mut self) -> Step {
        let Subscription { hello, pushes } = self.service.subscribe(self.patience);
        self.pushes = Some(pushes);
        self.send(hello).await
    }

    /// Whoever is silent is asked for a sign of life, and has gone if there is none.
    async fn look(&mut self) -> Step {
        if self.is_quiet {
            return Step::Break(End::Gone);
        }
        self.is_quiet = true;
        self.deliver(Message::Ping(Vec::new().into())).await
    }

    async fn send(&mut self, text: Utf8Bytes) -> Step {
        self.deliver(Message::Text(text)).await
    }

    /// The library has answered a ping as soon as it was read, and keeps what cannot be sent yet.
    async fn send_pong(&mut self) -> Step {
        delivered(timeout(self.patience, self.socket.flush()).await)
    }

    async fn deliver(&mut self, message: Message) -> Step {
        delivered(timeout(self.patience, self.socket.send(message)).await)
    }

    /// Says why, if there is something to say, and waits until the client has read it and closed its side. To close
    /// while something of the client's is unread would be a reset, which may reach it before the reason does.
    async fn end(mut self, end: End) {
        let End::Close(code, reason) = end else {
            return;
        };
        let close = Message::Close(Some(CloseFrame {
            code,
            reason: reason.into(),
        }));
        let patience = self.patience;
        let farewell = async {
            self.socket.send(close).await.ok()?;
            let mut stream = self.socket.into_inner();
            stream.shutdown().await.ok()?;
            let mut unread = vec![0; MESSAGE_BYTES_MAX];
            while stream.read(&mut unread).await.ok()? > 0 {}
            Some(())
        };
        // It has gone, now or after its time.
        let _ = timeout(patience, farewell).await;
    }
}

/// Goes on if it was sent in time.
fn delivered(outcome: Result<Result<(), Error>, Elapsed>) -> Step {
    match outcome {
        Ok(Ok(())) => Step::Continue(()),
        Ok(Err(_)) | Err(_) => Step::Break(End::Gone),
    }
}

/// The next push. Never one without a subscription.
async fn next(pushes: &mut Option<broadcast::Receiver<Utf8Bytes>>) -> Result<Utf8Bytes, RecvError> {
    match pushes {
        Some(pushes) => pushes.recv().await,
        None => future::pending().await,
    }
}

/// What is said to a client whose message could not be read.
fn end_after(error: &Error) -> End {
    let (code, reason) = match error {
        Error::Capacity(_) => {
            let reason = format!("a message may have {MESSAGE_BYTES_MAX} bytes");
            return End::Close(CloseCode::Size, reason);
        }
        Error::Utf8(_) => (CloseCode::Invalid, "a text message is UTF-8"),
        Error::Protocol(_) | Error::AttackAttempt => {
            (CloseCode::Protocol, "this is no websocket frame")
        }
        _ => return End::Gone,
    };
    End::Close(code, reason.to_owned())
}
