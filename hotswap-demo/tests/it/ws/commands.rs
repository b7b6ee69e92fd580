//! What the server is asked itself, how plugins come to it by themselves, and what a page says of both.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{patient_plugin, server::Server};
use crate::{
    demo::plugin,
    dev::{CODE, Workspace},
};

/// What a page is told first.
fn hello(server: &Server) -> Value {
    let request = server.request("sec-websocket-protocol", "hotswap-json");
    let mut page = server.connect_with(request).unwrap();
    serde_json::from_str(&page.hears()).unwrap()
}

#[test]
fn the_plugin_before_is_put_back() {
    let server = Server::with("shipped");
    let mut client = server.connect();
    let nothing = "no rollback: no plugin before this one is kept; load the file that you want";
    assert_eq!(client.ask(":rollback"), nothing);
    server.put(&fs::read(plugin("other")).unwrap());
    let accepted = client.ask(":reload");
    assert!(accepted.starts_with("accepted generation 2"), "{accepted}");
    assert_eq!(client.ask("hi"), "hi");
    server.says("unloaded generation 1 ");
    assert_eq!(
        client.ask(":rollback"),
        "rolled-back generation 2: generation 1 is live again, as generation 3"
    );
    assert_eq!(client.ask("hi"), "You said 'hi'");
}

#[test]
fn an_unknown_command_is_refused_and_not_sent_to_the_plugin() {
    let server = Server::with("shipped");
    let mut client = server.connect();
    let mut check = |message: &str, said: &str| assert_eq!(client.ask(message), said);
    check(":foo", "unknown command :foo; :help lists the commands");
    check(":", "unknown command :; :help lists the commands");
    let nearest = "unknown command :relaod; did you mean :reload?";
    check(":relaod now", nearest);
    check(":reload now", ":reload has no argument");
    check(
        ":\u{1b}[2J",
        r"unknown command :\u{1b}[2J; :help lists the commands",
    );
    let beginning = format!(":{}", "x".repeat(39));
    check(
        &format!(":{}", "x".repeat(60_000)),
        &format!("unknown command {beginning}; :help lists the commands"),
    );
    // White space around it is somebody's finger.
    assert!(
        client
            .ask(":reload \n")
            .starts_with("accepted generation 2")
    );
    assert_eq!(client.ask(" :foo"), "You said ' :foo'");
    assert_eq!(client.ask("a:b"), "You said 'a:b'");
    let help = client.ask(":help");
    assert!(
        help.starts_with(":reload loads the plugin's file again, :rollback "),
        "{help}"
    );

    let request = server.request("sec-websocket-protocol", "hotswap-json");
    let mut page = server.connect_with(request).unwrap();
    page.send(":foo");
    let reply = loop {
        let told: Value = serde_json::from_str(&page.hears()).unwrap();
        if told["type"] == "command" {
            break told;
        }
    };
    let text = "unknown command :foo; :help lists the commands";
    assert_eq!(
        reply,
        json!({"type": "command", "refused": true, "text": text})
    );
}

#[test]
fn a_file_that_is_watched_is_swapped_in() {
    let server = Server::with_options(&["--watch"], "shipped");
    let mut client = server.connect();
    assert_eq!(client.ask("hi"), "You said 'hi'");
    assert_eq!(hello(&server)["guide"]["swaps"], "watch");
    server.put(&fs::read(plugin("other")).unwrap());
    server.says("accepted generation 2: ");
    assert_eq!(client.ask("hi"), "hi");
    // Who asks is told of their own reload.
    let accepted = client.ask(":reload");
    assert!(
        accepted.starts_with("accepted generation 3: "),
        "{accepted}"
    );
}

#[test]
fn what_is_saved_is_built_and_swapped_in() {
    let workspace = Workspace::new("served");
    let server = Server::with_dev(&workspace);
    let mut client = server.connect();
    assert_eq!(client.ask("hi"), "hi");
    let guide = json!({"package": "served", "file": null, "command": null, "swaps": "dev"});
    assert_eq!(hello(&server)["guide"], guide);

    workspace.change(CODE, "Ok(text.to_owned())", "Ok(format!(\"two {text}\"))");
    server.says("building served");
    server.says("accepted generation 2: ");
    let built = server.next_line("built in ");
    assert!(built.contains("s, swapped in "), "{built}");
    assert_eq!(client.ask("hi"), "two hi");

    workspace.change(CODE, "Ok(format!", "Ok(7 + format!");
    server.says("error[E0277]: cannot add `String` to `{integer}`");
    let not_built = server.next_line("not built, after ");
    assert!(
        not_built.ends_with("s; generation 2 stays live"),
        "{not_built}"
    );
    assert_eq!(client.ask("hi"), "two hi");
}

#[test]
fn a_page_says_what_to_edit() {
    let server = Server::with_file(&[], &patient_plugin());
    let guide = hello(&server)["guide"].take();
    let file = "hotswap-demo/examples/ws_plugin.rs";
    let command = "cargo build -p hotswap-demo --examples";
    let expected =
        json!({"package": "hotswap-demo", "file": file, "command": command, "swaps": "reload"});
    assert_eq!(guide, expected);
    // Those of the other plugin of ours are tried in a browser.
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for file in [file, "hotswap-plugin/src/code.rs"] {
        let code = fs::read_to_string(top.join(file)).unwrap();
        assert!(code.contains("fn process("), "{file}");
    }

    let server = Server::with("shipped");
    let expected = json!({"package": "hotswap-demo-fixtures", "file": null, "command": null, "swaps": "reload"});
    assert_eq!(hello(&server)["guide"], expected);
}
