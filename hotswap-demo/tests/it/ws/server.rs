//! A running `ws_server`, and clients that are not the example's.

use std::{
    fs,
    net::{SocketAddr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, mpsc::Receiver},
};

use rustix::{
    net::{self, AddressFamily, SocketType},
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket,
    client::IntoClientRequest,
    handshake::client::Request,
    http::{HeaderName, HeaderValue},
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::{
    demo::{SOON, lines, plugin, without_backtraces},
    dev::Workspace,
    examples::example,
};

/// A server on a free port, whose plugin lies in a folder of its own. It is killed should a test fail.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    /// As in `127.0.0.1:4711`.
    pub(crate) address: String,
    err: Receiver<String>,
}

/// The server as a command.
pub(crate) fn server() -> Command {
    static PATH: LazyLock<PathBuf> =
        LazyLock::new(|| example("ws_server").get_program().to_owned().into());
    without_backtraces(&*PATH)
}

/// The same, on a free port, with plugins of any owner.
///
/// Unless `options` say otherwise, it waits an hour for its clients, and for the plugin: a client of these tests that
/// waits for a build answers no ping meanwhile, and on a busy machine the server would give it up.
fn listening(options: &[&str]) -> Command {
    let mut command = server();
    command.args(["--any-owner", "--listen", "127.0.0.1:0"]);
    if !options.contains(&"--patience") {
        command.args(["--patience", "1h"]);
    }
    command.args(options);
    command
}

impl Server {
    pub(crate) fn with(name: &str) -> Self {
        Self::with_options(&[], name)
    }

    pub(crate) fn with_options(options: &[&str], name: &str) -> Self {
        Self::with_file(options, &plugin(name))
    }

    /// With a copy of this plugin.
    pub(crate) fn with_file(options: &[&str], plugin: &Path) -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("plugin.so");
        fs::copy(plugin, &path).expect("a copy");
        let mut command = listening(options);
        command.arg(path);
        Self::of(command, folder)
    }

    /// With the plugins of this workspace, as they are built.
    pub(crate) fn with_dev(workspace: &Workspace) -> Self {
        let command = workspace.with_dev(listening(&[]), &[]);
        Self::of(command, TempDir::new().expect("a folder"))
    }

    fn of(mut command: Command, folder: TempDir) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server runs");
        let out = lines(child.stdout.take().expect("a pipe"));
        let err = lines(child.stderr.take().expect("a pipe"));
        let first = out.recv_timeout(SOON).expect("it says where it listens");
        let address = first.strip_prefix("listening on http://").expect("so");
        let port = address
            .trim_end_matches('/')
            .rsplit(':')
            .next()
            .expect("a port");
        Self {
            address: format!("127.0.0.1:{port}"),
            child,
            folder,
            err,
        }
    }

    pub(crate) fn plugin(&self) -> PathBuf {
        self.folder.path().join("plugin.so")
    }

    /// Replaces the plugin's file, as a whole.
    pub(crate) fn put(&self, bytes: &[u8]) {
        let beside = self.folder.path().join("beside");
        fs::write(&beside, bytes).expect("it is written");
        fs::rename(beside, self.plugin()).expect("it is renamed");
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// A request for a websocket, with one more header.
    pub(crate) fn request(&self, name: &'static str, value: &str) -> Request {
        let mut request = self.url().into_client_request().expect("a request");
        let value = HeaderValue::from_str(value).expect("a value");
        request
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
        request
    }

    pub(crate) fn connect(&self) -> Client {
        self.connect_with(self.url()).expect("it may")
    }

    /// A client at another address of this machine.
    pub(crate) fn connect_from(&self, address: [u8; 4]) -> Client {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        let from = SocketAddrV4::new(address.into(), 0);
        net::bind(&socket, &from).expect("it is of this machine");
        let to: SocketAddr = self.address.parse().expect("an address");
        net::connect(&socket, &to).expect("it listens");
        let stream = with_timeouts(socket.into());
        let (client, _) = tungstenite::client(self.url(), stream).expect("it may");
        Client(client)
    }

    /// The client, or the status and the text by which it was turned away.
    pub(crate) fn connect_with(
        &self,
        request: impl IntoClientRequest,
    ) -> Result<Client, (u16, String)> {
        match tungstenite::client(request, self.stream()) {
            Ok((socket, _)) => Ok(Client(socket)),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                let text = response.body().clone().unwrap_or_default();
                let text = String::from_utf8(text).expect("a text");
                Err((response.status().as_u16(), text))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A connection that waits no longer than a test.
    pub(crate) fn stream(&self) -> TcpStream {
        with_timeouts(TcpStream::connect(&self.address).expect("it listens"))
    }

    /// Waits for a line on stderr.
    #[track_caller]
    pub(crate) fn says(&self, beginning: &str) {
        self.next_line(beginning);
    }

    /// The next line on stderr that begins so.
    #[track_caller]
    pub(crate) fn next_line(&self, beginning: &str) -> String {
        loop {
            let line = self.err.recv_timeout(SOON);
            let line = line.unwrap_or_else(|_| panic!("`{beginning}` is not said"));
            if line.starts_with(beginning) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is ours");
    }

    /// Waits for the end; gives the exit code, and the lines of stderr that were not read yet.
    pub(crate) fn ends(mut self) -> (Option<i32>, Vec<String>) {
        let err = self.err.iter().collect();
        (self.child.wait().expect("a child").code(), err)
    }
}

fn with_timeouts(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(SOON)).expect("it waits");
    stream.set_write_timeout(Some(SOON)).expect("it waits");
    stream
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A websocket of a library's.
pub(crate) struct Client(pub(crate) WebSocket<TcpStream>);

impl Client {
    #[track_caller]
    pub(crate) fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("it is sent");
    }

    /// The next text that comes.
    #[track_caller]
    pub(crate) fn hears(&mut self) -> String {
        loop {
            match self.0.read().expect("a message") {
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, text: &str) -> String {
        self.send(text);
        self.hears()
    }

    /// Waits for the close, and gives its code and reason.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) -> (CloseCode, String) {
        loop {
            match self.0.read().expect("a close") {
                Message::Close(Some(CloseFrame { code, reason })) => {
                    return (code, reason.to_string());
                }
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
