//! The examples of `hotswap-core`. They take plugins by the default policy: so these lie in a folder of the test's own.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{cargo, example};
use crate::demo::{Demo, SOON, plugin};

#[test]
fn the_smallest_host_calls_and_swaps() {
    let (_folder, path) = deployed("shipped");
    let mut command = example("host");
    command.arg(&path);
    let mut host = Demo::of(command);
    let shown = path.display();
    host.says(&format!("accepted generation 1: {shown}"));
    assert_eq!(host.prints(), "Adding to 10: 17");

    deploy("other", &path);
    host.type_line(&path);
    host.says(&format!("accepted generation 2: {shown}"));
    host.says("unloaded generation 1 ");
    assert_eq!(host.prints(), "Adding to 20: 27");

    host.type_line("/no/such.so");
    host.says("refused /no/such.so: open: no such file; generation 2 stays live");
    assert_eq!(host.prints(), "Adding to 20: 27");
    host.type_line("");
    assert_eq!(host.prints(), "Adding to 20: 27");

    host.end_input();
    let (code, said) = host.ends();
    assert_eq!((code, said.len()), (Some(0), 1), "{said:?}");
    assert!(said[0].starts_with("unloaded generation 2 "), "{said:?}");
}

#[test]
fn a_root_module_is_called_and_swapped() {
    let built = example("root_module_plugin");
    let built = Path::new(built.get_program()).with_file_name("libroot_module_plugin.so");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("libgreeter.so");
    install(&built, &path);
    let mut command = example("root_module");
    command.arg(&path);
    let mut host = Demo::of(command);
    host.type_line("Ada");
    assert_eq!(host.prints(), "Hello, Ada!");
    host.type_line("");
    assert_eq!(host.prints(), "generation 2 is live");

    fs::write(&path, "no plugin").unwrap();
    host.type_line("");
    host.says(&format!("cannot load {path:?}: inspect: "));
    host.type_line("Bob");
    assert_eq!(host.prints(), "Hello, Bob!");
    host.end_input();
    assert_eq!(host.ends(), (Some(0), Vec::new()));
}

#[test]
fn an_axum_server_swaps_between_requests() {
    let (_folder, path) = deployed("shipped");
    let (server, address) = server(&path);
    let post = |path: &str| answer(&mut request(&address, path, "hello"));
    let (fine, swapped) = (200, "generation 2 is live, generation 1 is unloaded\n");
    assert_eq!(post("/process"), (fine, "You said 'hello'".to_owned()));

    deploy("other", &path);
    assert_eq!(post("/swap"), (fine, swapped.to_owned()));
    assert_eq!(post("/process"), (fine, "hello".to_owned()));

    fs::write(&path, "no plugin").unwrap();
    let (status, text) = post("/swap");
    assert_eq!(status, 422);
    let beginning = format!("cannot load {path:?}: inspect: ");
    assert!(text.starts_with(&beginning), "{text}");
    assert_eq!(post("/process"), (fine, "hello".to_owned()));

    server.signal(Signal::TERM);
    assert_eq!(server.ends(), (Some(0), Vec::new()));
}

/// By the one thread that has called the old plugin, and has a destructor of it to run.
#[test]
fn an_axum_server_answers_while_it_swaps() {
    let (_folder, path) = deployed("touchy");
    let orders = tempfile::NamedTempFile::new().unwrap();
    let (server, address) = server_with(&path, &[("MISBEHAVE", orders.path())]);
    let process = || answer(&mut request(&address, "/process", "hello"));
    assert_eq!(process(), (200, "touched by 'hello'".to_owned()));

    deploy("misbehaving", &path);
    fs::write(orders.path(), "root module: wait").unwrap();
    let mut swapping = request(&address, "/swap", "");
    let started = Instant::now();
    while fs::read_to_string(orders.path()).unwrap() != "root module: waiting" {
        assert!(started.elapsed() < SOON, "the candidate does not wait");
        thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..3 {
        assert_eq!(process(), (200, "touched by 'hello'".to_owned()));
    }
    fs::write(orders.path(), "").unwrap();
    let swapped = "generation 2 is live, generation 1 is unloaded\n";
    assert_eq!(answer(&mut swapping), (200, swapped.to_owned()));
    assert_eq!(process(), (200, "hello".to_owned()));

    server.signal(Signal::TERM);
    assert_eq!(server.ends(), (Some(0), Vec::new()));
}

#[test]
fn an_axum_server_answers_what_it_has_accepted_before_it_ends() {
    let (_folder, path) = deployed("shipped");
    let (server, address) = server(&path);
    let head =
        "POST /process HTTP/1.1\r\nhost: it\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    let mut pending = connect(&address);
    pending.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    // Its handler waits for the body.
    pending.read_exact(&mut go_on).unwrap();

    server.signal(Signal::TERM);
    let started = Instant::now();
    while TcpStream::connect(&address).is_ok() {
        assert!(started.elapsed() < SOON, "it still listens");
    }
    pending.write_all(b"hello").unwrap();
    assert_eq!(answer(&mut pending), (200, "You said 'hello'".to_owned()));
    assert_eq!(server.ends(), (Some(0), Vec::new()));
}

#[test]
fn the_test_of_a_plugin_sees_what_it_answers() {
    let test = |name: &str| {
        let mut cargo = cargo(&["test", "--quiet", "--example", "testing"]);
        let output = cargo.env("PLUGIN", plugin(name)).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), said)
    };
    let (passes, said) = test("shipped");
    assert!(passes && said.contains("2 passed"), "{said}");
    let (passes, said) = test("other");
    assert!(!passes && said.contains("Adding to 20: 27"), "{said}");
}

/// A plugin of the tests where nobody else can write, and the folder, which is gone afterwards.
fn deployed(name: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("libplugin.so");
    deploy(name, &path);
    (folder, path)
}

fn deploy(name: &str, path: &Path) {
    install(&plugin(name), path);
}

fn install(built: &Path, path: &Path) {
    fs::copy(built, path).unwrap();
    // The copy has the permissions that the build's umask has left.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

/// The example `axum` on a free port, and its address.
fn server(path: &Path) -> (Demo, String) {
    server_with(path, &[])
}

fn server_with(path: &Path, environment: &[(&str, &Path)]) -> (Demo, String) {
    let mut command = example("axum");
    command.arg(path).arg("0");
    command.envs(environment.iter().copied());
    let server = Demo::of(command);
    let first = server.prints();
    let address = first.strip_prefix("listening on http://");
    let address = address.unwrap_or_else(|| panic!("{first}")).to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    (server, address)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn request(address: &str, path: &str, body: &str) -> TcpStream {
    let mut stream = connect(address);
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: it\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).unwrap();
    stream
}

/// The status and the text.
fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut lines = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        line
    };
    let status = next();
    let status = status.split(' ').nth(1).and_then(|it| it.parse().ok());
    let mut length = 0;
    loop {
        let line = next().to_ascii_lowercase();
        if line.trim_end().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim_end().parse().unwrap();
        }
    }
    let mut text = vec![0; length];
    lines.read_exact(&mut text).unwrap();
    (status.expect("a status"), String::from_utf8(text).unwrap())
}
