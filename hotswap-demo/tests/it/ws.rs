//! The example `ws_server`: what its clients are answered, who is turned away, and what each of them can do.

#[path = "../../examples/ws_server/address.rs"]
mod address;
mod canary;
mod client;
mod commands;
mod metrics;
mod query;
mod server;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    iter,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use self::{
    address::{Bounds, PerAddress},
    server::{Server, server},
};
use crate::{
    demo::{SOON, plugin, without_backtraces},
    examples::example,
};

#[test]
fn a_reload_is_told_and_closes_nothing() {
    let server = Server::with("shipped");
    let path = server.plugin().display().to_string();
    let (mut client, mut bystander) = (server.connect(), server.connect());
    assert_eq!(client.ask("hi"), "You said 'hi'");
    assert_eq!(bystander.ask(""), "You said ''");

    let other = fs::read(plugin("other")).unwrap();
    server.put(&other);
    assert_eq!(client.ask("still"), "You said 'still'");
    let answer = client.ask(":reload");
    assert_eq!(answer, format!("accepted generation 2: {path}"));
    assert_eq!(client.ask("hi"), "hi");
    assert_eq!(bystander.ask("hi"), "hi");

    server.put(&other[..other.len() / 2]);
    let (needs, has) = (other.len(), other.len() / 2);
    assert_eq!(
        client.ask(":reload"),
        format!(
            "refused {path}: inspect: truncated: needs {needs} bytes, has {has}; generation 2 stays live"
        )
    );
    fs::remove_file(server.plugin()).unwrap();
    assert_eq!(
        client.ask(":reload"),
        format!("refused {path}: open: no such file; generation 2 stays live")
    );
    assert_eq!(client.ask("hi"), "hi");
    assert_eq!(bystander.ask("hi"), "hi");
}

#[test]
fn answers_keep_their_order_and_each_is_of_one_version() {
    const MESSAGES: usize = 2000;
    let server = Server::with("shipped");
    let (mut client, mut operator) = (server.connect(), server.connect());
    let other = fs::read(plugin("other")).unwrap();
    for number in 0..MESSAGES {
        client.send(&number.to_string());
        // In the middle of it.
        if number == MESSAGES / 2 {
            server.put(&other);
            operator.send(":reload");
        }
    }
    let mut answers = (0..MESSAGES).map(|_| client.hears()).enumerate().peekable();
    while answers
        .next_if(|(number, answer)| *answer == format!("You said '{number}'"))
        .is_some()
    {}
    for (number, answer) in answers {
        assert_eq!(answer, number.to_string());
    }
    assert!(operator.hears().starts_with("accepted generation 2"));
    assert_eq!(client.ask("last"), "last");
}

/// The example `ws_plugin`, beside the server.
pub(crate) fn patient_plugin() -> PathBuf {
    let examples = example("ws_plugin");
    let program = Path::new(examples.get_program());
    program.with_file_name("libws_plugin.so")
}

/// A server for the plugin to ask, which answers when the test says so.
struct Other {
    listener: TcpListener,
    address: String,
}

/// A question to it that is not answered yet.
struct Question {
    stream: BufReader<TcpStream>,
    text: String,
}

impl Other {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { listener, address }
    }

    fn question(&self) -> Question {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut stream = BufReader::new(stream);
        let mut text = String::new();
        stream.read_line(&mut text).unwrap();
        Question { stream, text }
    }
}

impl Question {
    fn answer(mut self, text: &str) {
        writeln!(self.stream.get_mut(), "{text}").unwrap();
    }
}

#[test]
fn an_answer_that_takes_its_time_is_of_the_generation_that_began_it() {
    let other = Other::new();
    let server = Server::with_file(&["--config", &other.address], &patient_plugin());
    let (mut first, mut second) = (server.connect(), server.connect());
    first.send("ask why");
    let question = other.question();
    assert_eq!(question.text, "why\n");
    // Others are served meanwhile, and by the next plugin.
    assert_eq!(second.ask("hi"), "You said 'hi'");
    assert_eq!(second.ask("sleep 1"), "slept 1 ms");
    let accepted = second.ask(":reload");
    assert!(accepted.starts_with("accepted generation 2"), "{accepted}");
    second.send("ask how");
    let of_second = other.question();
    of_second.answer("so");
    assert_eq!(second.hears(), "so");
    question.answer("because");
    assert_eq!(first.hears(), "because");
    assert_eq!(first.ask("hi"), "You said 'hi'");
}

#[test]
fn an_answer_that_takes_too_long_is_cancelled() {
    let other = Other::new();
    let options = ["--config", &other.address, "--patience", "1s"];
    let server = Server::with_file(&options, &patient_plugin());
    let mut client = server.connect();
    client.send("ask why");
    let mut question = other.question();
    assert_eq!(client.hears(), "fault generation 1: no answer within 1s");
    // The plugin has dropped its connection.
    let mut rest = String::new();
    question.stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn what_the_plugin_logs_is_written_with_its_generation() {
    let server = Server::with_file(&["--log", "ws_plugin=info"], &patient_plugin());
    let mut client = server.connect();
    let logged = |generation: u64| {
        let line: Value = serde_json::from_str(&server.next_line("{")).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "ws_plugin");
        let expected = serde_json::json!({
            "message": "asked", "bytes": 2, "plugin": "ws_server", "generation": generation,
        });
        assert_eq!(line["fields"], expected);
    };
    assert_eq!(client.ask("hi"), "You said 'hi'");
    logged(1);
    let accepted = client.ask(":reload");
    assert!(accepted.starts_with("accepted generation 2"), "{accepted}");
    assert_eq!(client.ask("ho"), "You said 'ho'");
    logged(2);
}

#[test]
fn a_configuration_that_the_plugin_refuses_is_told() {
    let output = server()
        .args([
            "--any-owner",
            "--listen",
            "127.0.0.1:0",
            "--config",
            "nowhere",
        ])
        .arg(patient_plugin())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = "root module: its constructor failed: the configuration is no address: nowhere";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_page_is_told_generations_and_what_changes() {
    let server = Server::with_options(&["--patience", "2h"], "shipped");
    let mut page = server
        .connect_with(server.request("sec-websocket-protocol", "hotswap-json"))
        .unwrap();
    let mut told = || serde_json::from_str::<serde_json::Value>(&page.hears()).unwrap();
    let hello = told();
    assert_eq!(hello["type"], "hello");
    assert_eq!(hello["may_reload"], true);
    assert_eq!(hello["patience_ms"], 7_200_000);
    assert_eq!(hello["generations"][0]["state"], "live");

    let mut client = server.connect();
    assert_eq!(client.ask("hi"), "You said 'hi'");
    assert!(client.ask(":reload").starts_with("accepted generation 2"));
    fs::remove_file(server.plugin()).unwrap();
    assert!(client.ask(":reload").starts_with("refused "));
    // The messages survive the generation that has answered them.
    let last = std::iter::repeat_with(&mut told)
        .find(|it| !it["refused"][0].is_null())
        .unwrap();
    assert_eq!(last["type"], "tick");
    assert_eq!(last["total"], 1);
    assert_eq!(last["generations"][1]["number"], 2);
    assert_eq!(last["generations"][1]["state"], "live");
    assert_eq!(last["refused"][0]["reason"], "open: no such file");
    // The page knows their times by their names.
    let page_file = include_str!("../../examples/ws_server/page.html");
    let (_, list) = page_file.split_once("function show_history(").unwrap();
    let (list, _) = list.split_once("\n}\n").unwrap();
    let names = list.split("it.").skip(1);
    let names = names.filter_map(|it| it.split(|c: char| c != '_' && !c.is_alphanumeric()).next());
    let times: BTreeSet<_> = names.filter(|it| it.ends_with("_ms")).collect();
    assert!(times.len() > 1, "{times:?}");
    for name in times {
        let is_time = |list: &str| last[list][0][name].is_u64();
        assert!(is_time("generations") || is_time("refused"), "{name}");
    }

    page.send("hi");
    let answer = loop {
        let answer = page.hears();
        if !answer.starts_with(r#"{"type":"tick""#) {
            break answer;
        }
    };
    assert_eq!(
        answer,
        r#"{"type":"answer","generation":2,"text":"You said 'hi'"}"#
    );
}

#[test]
fn pages_of_others_are_turned_away() {
    let server = Server::with_options(&["--host", "plugins.example"], "shipped");
    let turned_away = |name, value| {
        let client = server.connect_with(server.request(name, value));
        client.map(|_| ()).unwrap_err()
    };
    let address = &server.address;
    for origin in [
        "http://evil.example",
        "null",
        "http://127.0.0.1:1",
        "file://",
    ] {
        let reason = format!("a page of {origin:?} may not connect to {address:?}\n");
        assert_eq!(turned_away("origin", origin), (403, reason));
    }
    // A name that was made to lead here (DNS rebinding): of one origin for the browser, but no name of ours.
    let reason = "unknown host \"evil.example:80\"; --host adds a name\n".to_owned();
    assert_eq!(turned_away("host", "evil.example:80"), (421, reason));

    let own = server.connect_with(server.request("origin", &format!("http://{address}")));
    assert_eq!(own.unwrap().ask("hi"), "You said 'hi'");
    for host in ["localhost", "plugins.example", "[::1]:9160"] {
        let known = server.connect_with(server.request("host", host));
        assert_eq!(known.unwrap().ask("hi"), "You said 'hi'");
    }
}

/// What stands between a browser and us, and what we go by, must be the same header.
#[test]
fn a_request_with_two_hosts_or_origins_is_a_bad_one() {
    let server = Server::with("shipped");
    let own = server.address.clone();
    let (host, origin) = (format!("Host: {own}"), format!("Origin: http://{own}"));
    let (host, origin) = (&*host, &*origin);
    let (evil, other) = ("Host: evil.example", "Origin: http://evil.example");
    let status = |target: &str, headers: &[&str]| {
        let mut stream = server.stream();
        let headers = headers.join("\r\n");
        let request = format!(
            "GET {target} HTTP/1.1\r\n{headers}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!(status("/ws", &[host]), 101);
    assert_eq!(status("/ws", &[host, origin]), 101);
    assert_eq!(status("/", &[host]), 200);
    for target in ["/ws", "/"] {
        for headers in [
            &[host, evil][..],
            &[evil, host],
            &[host, host],
            &[host, origin, other],
            &[host, other, origin],
            &[host, origin, origin],
            // None at all, and what is none.
            &["Accept: */*"],
            &["Host: "],
            &["Host: a b"],
            &["Host: user@localhost"],
            &["Host: localhost, evil.example"],
        ] {
            assert_eq!(status(target, headers), 400, "{target} {headers:?}");
        }
        // The whole address names another host than the header.
        let whole = format!("http://evil.example{target}");
        assert_eq!(status(&whole, &[host]), 400);
    }
    assert_eq!(status(&format!("http://{own}/ws"), &[host]), 101);
    assert_eq!(server.connect().ask("hi"), "You said 'hi'");
}

#[test]
fn the_page_allows_no_script_but_its_own() {
    let server = Server::with("shipped");
    let mut stream = server.stream();
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("\r\nx-content-type-options: nosniff"),
        "{head}"
    );
    let (_, policy) = head
        .split_once("content-security-policy: default-src 'none'; ")
        .unwrap();
    let (_, nonce) = policy.split_once("script-src 'nonce-").unwrap();
    let (nonce, _) = nonce.split_once('\'').unwrap();
    assert_eq!(nonce.len(), 32, "{nonce}");
    assert!(
        page.contains(&format!("<script nonce=\"{nonce}\">")),
        "{page}"
    );
}

#[test]
fn what_cannot_be_read_closes_that_connection_alone() {
    let server = Server::with("shipped");
    let mut bystander = server.connect();
    assert_eq!(bystander.ask("hi"), "You said 'hi'");

    let longest = "x".repeat(65_536);
    let mut client = server.connect();
    assert_eq!(client.ask(&longest), format!("You said '{longest}'"));
    client.send(&format!("{longest}x"));
    let reason = "a message may have 65536 bytes".to_owned();
    assert_eq!(client.is_closed(), (CloseCode::Size, reason));

    let mut client = server.connect();
    client.0.send(Message::binary(vec![1])).unwrap();
    let reason = "only text messages are answered".to_owned();
    assert_eq!(client.is_closed(), (CloseCode::Unsupported, reason));

    // A text of one byte that is none, with a mask of zeros; and a text without a mask.
    for (frame, code, reason) in [
        (
            &[0x81, 0x81, 0, 0, 0, 0, 0xff][..],
            CloseCode::Invalid,
            "a text message is UTF-8",
        ),
        (
            &[0x81, 0x01, b'x'],
            CloseCode::Protocol,
            "this is no websocket frame",
        ),
    ] {
        let mut client = server.connect();
        client.0.get_mut().write_all(frame).unwrap();
        assert_eq!(client.is_closed(), (code, reason.to_owned()));
    }
    assert_eq!(bystander.ask("hi"), "You said 'hi'");
}

#[test]
fn a_panic_is_an_answer_to_one_message() {
    let server = Server::with("touchy");
    let (mut client, mut bystander) = (server.connect(), server.connect());
    let fault = client.ask("panic");
    assert!(
        fault.starts_with("fault generation 1: panicked: as told (")
            && fault.contains("touchy.rs:"),
        "{fault}"
    );
    assert_eq!(client.ask("fail"), "fault generation 1: as told");
    assert_eq!(client.ask("hi"), "touched by 'hi'");
    assert_eq!(bystander.ask("hi"), "touched by 'hi'");
}

#[test]
fn connections_are_counted() {
    let server = Server::with_options(&["--connections", "1"], "shipped");
    let mut first = server.connect();
    assert_eq!(first.ask("hi"), "You said 'hi'");
    let second = server.connect_with(server.url()).map(|_| ());
    assert_eq!(
        second,
        Err((503, "all 1 connections are taken\n".to_owned()))
    );
    first.0.close(None).unwrap();
    // Until the server has seen it.
    let deadline = Instant::now() + SOON;
    while server.connect_with(server.url()).is_err() {
        assert!(Instant::now() < deadline, "its place stays taken");
    }
}

#[test]
fn one_address_cannot_take_every_connection() {
    let options = ["--connections", "4", "--connections-per-address", "2"];
    let server = Server::with_options(&options, "shipped");
    let mut first = server.connect();
    let mut second = server.connect();
    let third = server.connect_with(server.url()).map(|_| ());
    let reason = "all 2 connections of this address are taken\n".to_owned();
    assert_eq!(third, Err((429, reason)));

    let mut other = server.connect_from([127, 0, 0, 2]);
    assert_eq!(other.ask("hi"), "You said 'hi'");
    assert_eq!(first.ask("hi"), "You said 'hi'");
    second.0.close(None).unwrap();
    // Until the server has seen it.
    let deadline = Instant::now() + SOON;
    while server.connect_with(server.url()).is_err() {
        assert!(Instant::now() < deadline, "its place stays taken");
    }
}

/// All clients on this machine have one address.
#[test]
fn a_loopback_address_can_take_every_connection_unless_told_otherwise() {
    let server = Server::with_options(&["--connections", "4"], "shipped");
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("hi"), "You said 'hi'");
    }
    let fifth = server.connect_with(server.url()).map(|_| ());
    let reason = "all 4 connections are taken\n".to_owned();
    assert_eq!(fifth, Err((503, reason)));
}

#[test]
fn one_address_of_another_machine_has_half_of_the_places_unless_told_otherwise() {
    let places_of = |address: &str, bound| {
        let places = PerAddress::new(Bounds::new(4, bound).with(1));
        let address = address.parse().unwrap();
        let taken: Vec<_> = iter::from_fn(|| places.take(address)).collect();
        taken.len()
    };
    for address in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"] {
        assert_eq!(places_of(address, None), 3, "{address}");
        assert_eq!(places_of(address, Some(3)), 4, "{address}");
    }
    for address in ["127.0.0.1", "127.0.0.2", "::ffff:127.0.0.1", "::1"] {
        assert_eq!(places_of(address, None), 5, "{address}");
        assert_eq!(places_of(address, Some(3)), 4, "{address}");
    }
}

/// Connections that never ask for anything, too.
#[test]
fn one_address_cannot_take_every_connection_without_a_request() {
    let options = ["--connections", "2", "--connections-per-address", "1"];
    let server = Server::with_options(&options, "shipped");
    let turned_away = |mut stream: TcpStream| {
        let mut answer = String::new();
        // That it is given up by and by is not what is looked for.
        let ended = stream.read_to_string(&mut answer);
        ended.is_ok() && answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n")
    };
    // One websocket, and 16 others.
    let silent: Vec<_> = (0..17).map(|_| server.stream()).collect();
    let more: Vec<_> = (0..100).map(|_| server.stream()).collect();
    // The last first: one that is let in says nothing for a while.
    assert!(more.into_iter().rev().any(turned_away));
    let mut other = server.connect_from([127, 0, 0, 2]);
    assert_eq!(other.ask("hi"), "You said 'hi'");
    drop(silent);
    let deadline = Instant::now() + SOON;
    while server.connect_with(server.url()).is_err() {
        assert!(Instant::now() < deadline, "their places stay taken");
    }
}

#[test]
fn who_does_not_read_is_disconnected() {
    let server = Server::with_options(&["--patience", "200ms"], "shipped");
    let mut flood = server.connect();
    let message = Message::text("x".repeat(60_000));
    let error = loop {
        if let Err(error) = flood.0.send(message.clone()) {
            break error;
        }
    };
    // Not that it had to wait: that would be without end.
    let tokio_tungstenite::tungstenite::Error::Io(error) = error else {
        panic!("{error}");
    };
    assert!(error.kind() != ErrorKind::WouldBlock, "{error}");
    assert_eq!(server.connect().ask("hi"), "You said 'hi'");
}

/// Each ping is answered, and the answers would pile up in the server.
#[test]
fn nothing_is_read_of_who_does_not_read_what_its_pings_are_answered() {
    const SENT_BYTES_MAX: usize = 64 << 20;
    let server = Server::with("shipped");
    let mut flood = server.connect();
    // Masked with zeros, as long as a ping may be.
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    let pings = ping.repeat(1000);
    let stream = flood.0.get_mut();
    stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut sent = 0;
    let error = loop {
        match stream.write(&pings[sent % ping.len()..]) {
            Ok(bytes) => sent += bytes,
            Err(error) => break error,
        }
        assert!(sent < SENT_BYTES_MAX, "all of them are read");
    };
    // What the system buffers is full.
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    assert_eq!(server.connect().ask("hi"), "You said 'hi'");
}

#[test]
fn who_shows_no_sign_of_life_is_disconnected() {
    let server = Server::with_options(&["--patience", "200ms"], "shipped");
    let mut silent = server.connect();
    // It is asked for one, does not answer, and there is nothing more.
    let mut bytes = Vec::new();
    silent.0.get_mut().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [0x89, 0x00]);
}

#[test]
fn ctrl_c_and_sigterm_close_and_unload() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = Server::with("shipped");
        let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
        assert!(
            clients[0]
                .ask(":reload")
                .starts_with("accepted generation 2")
        );
        server.signal(signal);
        for client in &mut clients {
            assert_eq!(
                client.is_closed(),
                (CloseCode::Away, "the server ends".to_owned())
            );
        }
        drop(clients);
        let (code, err) = server.ends();
        assert_eq!(code, Some(0), "{signal:?}: {err:?}");
        // In whichever order: the one before may be held by a thread that sleeps.
        for generation in [1, 2] {
            let line = format!("unloaded generation {generation} after ");
            assert!(err.iter().any(|it| it.starts_with(&line)), "{err:?}");
        }
    }
}

#[test]
fn other_machines_may_not_connect_and_not_reload_unless_told() {
    let plugin = plugin("shipped");
    let output = server()
        .args(["--listen", "0.0.0.0:0"])
        .arg(&plugin)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "Error: 0.0.0.0:0 can be reached from other machines; --allow-remote allows it\n"
    );

    let remote = ["--listen", "0.0.0.0:0", "--allow-remote"];
    let server = Server::with_options(&remote, "shipped");
    let mut client = server.connect();
    assert_eq!(client.ask("hi"), "You said 'hi'");
    for message in [
        ":reload",
        ":rollback",
        ":canary 10%",
        ":share 10%",
        ":rollout",
        ":promote",
        ":abandon",
    ] {
        let command = message.split(' ').next().unwrap();
        assert_eq!(
            client.ask(message),
            format!(
                "refused {command}: others than this machine could ask for it; --allow-remote-reload allows it"
            )
        );
    }
    let remote = [&remote[..], &["--allow-remote-reload"]].concat();
    let server = Server::with_options(&remote, "shipped");
    assert!(
        server
            .connect()
            .ask(":reload")
            .starts_with("accepted generation 2")
    );
}

#[test]
fn it_does_not_start_without_what_it_needs() {
    let fails = |command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let err = fails(server().args(["--any-owner", "/no/such.so"]));
    assert_eq!(err, "refused /no/such.so: open: no such file\n");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut second = server();
    second.args(["--any-owner", "--listen", &address]);
    let err = fails(second.arg(plugin("shipped")));
    assert_eq!(
        err.lines().next().unwrap(),
        format!("Error: cannot listen on {address}")
    );

    let mut few_files = without_backtraces("sh");
    few_files.args(["-c", r#"ulimit -n 500; exec "$0" "$@""#]);
    let err = fails(few_files.arg(server().get_program()).arg(plugin("shipped")));
    assert_eq!(
        err,
        "Error: 4096 connections need 4288 open files, and 500 are allowed\n"
    );
}

#[test]
fn what_a_plugin_has_left_on_sleeping_workers_does_not_keep_it() {
    // Nor does the server ask for signs of life, which would wake them.
    let server = Server::with("touchy");
    let mut clients: Vec<_> = (0..32).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.send("hi"));
    for client in &mut clients {
        assert_eq!(client.hears(), "touched by 'hi'");
    }
    assert!(
        clients[0]
            .ask(":reload")
            .starts_with("accepted generation 2")
    );
    // Nobody asks the plugin anything any more.
    server.says("unloaded generation 1 after ");
}
