//! The example `ws_client`, on a pipe and on a terminal.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
};

use rustix::{
    event::{self, PollFd, PollFlags, Timespec},
    process::Signal,
};

use super::server::Server;
use crate::{demo::SOON, examples::example};

fn piped(url: &str) -> Command {
    let mut command = example("ws_client");
    command.arg(url);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn lines_of_a_pipe_are_answered() {
    let server = Server::with("shipped");
    let mut client = piped(&server.url()).spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    input.write_all(b"hi\n:reload\n:foo\n").unwrap();
    drop(input);
    let output = client.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!(
            "You said 'hi'\naccepted generation 2: {}\n\
             unknown command :foo; :help lists the commands\n",
            server.plugin().display()
        )
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn it_says_that_the_server_has_gone() {
    let server = Server::with("shipped");
    let url = server.url();
    let mut client = piped(&url).spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    input.write_all(b"hi\n").unwrap();
    let mut out = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(out.next().unwrap().unwrap(), "You said 'hi'");
    server.signal(Signal::INT);
    assert_eq!(server.ends().0, Some(0));
    let mut err = BufReader::new(client.stderr.take().unwrap()).lines();
    let gone = "the server has closed the connection: the server ends";
    assert_eq!(err.next().unwrap().unwrap(), gone);
    drop(input);
    assert_eq!(client.wait().unwrap().code(), Some(1));

    let output = piped(&url).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr);
    let first = err.lines().next().unwrap();
    assert_eq!(first, format!("Error: cannot connect to {url}"), "{err}");
}

#[test]
fn a_terminal_has_a_prompt_and_a_history() {
    let server = Server::with("shipped");
    let (mut terminal, pts) = pty_process::blocking::open().unwrap();
    terminal.resize(pty_process::Size::new(24, 80)).unwrap();
    let program = example("ws_client").get_program().to_owned();
    let mut client = pty_process::blocking::Command::new(program)
        .arg(server.url())
        .env("TERM", "xterm")
        .spawn(pts)
        .unwrap();
    let patience = Timespec::try_from(SOON).unwrap();
    let mut see = |typed: &[u8], end: &str| {
        terminal.write_all(typed).unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(end) {
            let mut readable = [PollFd::new(&terminal, PollFlags::IN)];
            let is_readable = event::poll(&mut readable, Some(&patience)).unwrap() == 1;
            let seen_so_far = String::from_utf8_lossy(&seen);
            assert!(
                is_readable,
                "no {end:?} within {SOON:?}, only {seen_so_far:?}"
            );
            let mut byte = [0];
            terminal.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
    };
    see(b"", "> ");
    see(b"hi\r", "You said 'hi'\r\n");
    see(b"", "> ");
    // The line before the last, changed at its beginning.
    see(b"ho\r", "You said 'ho'\r\n");
    see(b"", "> ");
    see(b"\x1b[A\x1b[A\x1b[D\x1b[DO\r", "You said 'Ohi'\r\n");
    server.signal(Signal::TERM);
    see(
        b"",
        "the server has closed the connection: the server ends\r\n",
    );
    see(b"\r", "\n");
    assert_eq!(client.wait().unwrap().code(), Some(1));
}
