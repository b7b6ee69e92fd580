//! A candidate that answers some of the connections.

use std::{collections::HashSet, fs};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    Other, patient_plugin,
    server::{Client, Server},
};
use crate::demo::plugin;

/// A server whose file is another one than what it has loaded, and who asks for changes.
fn server(options: &[&str], candidate: &str) -> (Server, Client) {
    let server = Server::with_options(options, "shipped");
    server.put(&fs::read(plugin(candidate)).unwrap());
    let operator = server.connect();
    (server, operator)
}

/// A connection with objects.
fn page(server: &Server) -> Client {
    let request = server.request("sec-websocket-protocol", "hotswap-json");
    server.connect_with(request).unwrap()
}

/// What a page is told that is as wanted, after anything else.
#[track_caller]
fn told(page: &mut Client, is_wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let told = serde_json::from_str(&page.hears()).unwrap();
        if is_wanted(&told) {
            return told;
        }
    }
}

#[test]
fn a_connection_stays_on_its_side_until_the_canary_is_promoted() {
    let (server, mut operator) = server(&[], "other");
    let path = server.plugin().display().to_string();
    let begun = format!("canary generation 2 gets 50% of the calls: {path}");
    assert_eq!(operator.ask(":canary 50%"), begun);
    server.says(&begun);
    let mut clients: Vec<_> = (0..64).map(|_| server.connect()).collect();
    let mut ask_all = || -> Vec<_> { clients.iter_mut().map(|it| it.ask("hi")).collect() };
    let answers = ask_all();
    let sides: HashSet<_> = answers.iter().map(String::as_str).collect();
    assert_eq!(sides, HashSet::from(["hi", "You said 'hi'"]));
    assert_eq!(ask_all(), answers);

    let more = format!("canary generation 2 gets 100% of the calls: {path}");
    assert_eq!(operator.ask(":share 100%"), more);
    assert!(ask_all().iter().all(|it| it == "hi"));
    let accepted = format!("accepted generation 2: {path}");
    let promoted = operator.ask(":promote");
    let start = format!("{accepted}; it had ");
    assert!(promoted.starts_with(&start), "{promoted}");
    assert!(promoted.contains("; the live side had "), "{promoted}");
    server.says(&accepted);
    server.says("unloaded generation 1 ");
    assert!(ask_all().iter().all(|it| it == "hi"));
}

#[test]
fn a_page_is_told_of_both_sides() {
    let (server, mut operator) = server(&[], "other");
    let mut page = page(&server);
    let hello = told(&mut page, |it| it["type"] == "hello");
    assert_eq!(hello["canary"], Value::Null);
    assert!(
        operator
            .ask(":canary 0%")
            .starts_with("canary generation 2 ")
    );
    let begun = told(&mut page, |it| !it["canary"].is_null());
    let none = json!({"calls": 0, "faults": 0, "p50_us": 0, "p90_us": 0, "p99_us": 0});
    let canary =
        json!({"generation": 2, "share": 0.0, "candidate": none, "live": none, "rule": null});
    assert_eq!(begun["canary"], canary);

    page.send("hi");
    let answer = told(&mut page, |it| it["type"] == "answer");
    assert_eq!(
        answer,
        json!({"type": "answer", "generation": 1, "text": "You said 'hi'"})
    );
    told(&mut page, |it| it["canary"]["live"]["calls"] == 1);
    assert!(
        operator
            .ask(":share 100%")
            .starts_with("canary generation 2 ")
    );
    page.send("hi");
    let answer = told(&mut page, |it| it["type"] == "answer");
    assert_eq!(
        answer,
        json!({"type": "answer", "generation": 2, "text": "hi"})
    );
    let both = told(&mut page, |it| it["canary"]["candidate"]["calls"] == 1);
    assert_eq!(both["canary"]["share"], 1.0);
    assert!(both["canary"]["candidate"]["p99_us"].is_u64(), "{both}");

    page.send(":rollout");
    let rule = json!({"shares": [0.1, 0.5, 1.0], "soak_ms": 5000, "calls_min": 200});
    let with_rule = told(&mut page, |it| !it["canary"]["rule"].is_null());
    assert_eq!(with_rule["canary"]["rule"], rule);
    page.send(":abandon");
    let reply = told(&mut page, |it| {
        it["type"] == "command" && it["text"].as_str().unwrap().starts_with("abandoned")
    });
    assert_eq!(reply["refused"], false);
    let text = reply["text"].as_str().unwrap();
    let start = "abandoned generation 2: it had 1 call, 0 faults, p50 ";
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains("; the live side had 1 call, "), "{text}");
    let ended = told(&mut page, |it| {
        !it["refused"].as_array().is_none_or(Vec::is_empty)
    });
    assert_eq!(ended["canary"], Value::Null);
    assert_eq!(ended["refused"][0]["generation"], 2);
    let refused = server.next_line("abandoned generation 2 ");
    assert!(
        refused.contains(": canary: on request (the candidate had 1 call, "),
        "{refused}"
    );
    server.says("unloaded generation 2 ");
}

#[test]
fn a_rule_gives_up_a_candidate_that_fails() {
    let (server, mut operator) = server(&[], "faulty");
    let begun = operator.ask(":rollout");
    let start = "canary generation 2 gets 10% of the calls: ";
    assert!(
        begun.starts_with(start) && begun.ends_with("; a rule decides"),
        "{begun}"
    );
    let mut clients = Vec::new();
    let mut faults = 0;
    while faults < 3 {
        let mut client = server.connect();
        let answer = client.ask("hi");
        faults += u32::from(answer.starts_with("fault generation 2: panicked: no answer to hi"));
        clients.push(client);
    }
    let refused = server.next_line("abandoned generation 2 ");
    assert!(refused.contains(": canary: 3 faults in "), "{refused}");
    assert!(refused.ends_with("; generation 1 stays live"), "{refused}");
    for client in &mut clients {
        assert_eq!(client.ask("hi"), "You said 'hi'");
    }
}

#[test]
fn no_answer_in_time_is_a_fault() {
    let other = Other::new();
    let options = ["--config", &other.address, "--patience", "1s"];
    let server = Server::with_file(&options, &patient_plugin());
    // Who neither says nor reads anything for that long is not served any more. So each is connected when it speaks.
    let begun = server.connect().ask(":canary 100%");
    assert!(begun.starts_with("canary generation 2 "), "{begun}");
    let mut client = server.connect();
    client.send("ask why");
    let _question = other.question();
    assert_eq!(client.hears(), "fault generation 2: no answer within 1s");
    let abandoned = server.connect().ask(":abandon");
    let start = "abandoned generation 2: it had 0 calls, 1 fault";
    assert!(abandoned.starts_with(start), "{abandoned}");
}

#[test]
fn what_is_asked_for_in_vain_is_said() {
    let (server, mut operator) = server(&[], "other");
    let none = "there is no canary; `:canary 10%` begins one";
    assert_eq!(operator.ask(":promote"), none);
    assert_eq!(operator.ask(":abandon"), none);
    assert_eq!(operator.ask(":share 50%"), none);
    let question = "which share? for example `:canary 10%`";
    assert_eq!(operator.ask(":canary"), question);
    assert_eq!(
        operator.ask(":canary half"),
        "invalid share half: not a percentage, such as 10%"
    );
    assert_eq!(
        operator.ask(":canary 101%"),
        "invalid share 101%: not between 0% and 100%"
    );
    let question = "which share? for example `:share 10%`";
    assert_eq!(operator.ask(":share"), question);
    let bytes = fs::read(server.plugin()).unwrap();
    server.put(&bytes[..bytes.len() / 2]);
    let refused = operator.ask(":canary 10%");
    assert!(refused.contains(": inspect: truncated: "), "{refused}");
    assert!(refused.ends_with("; generation 1 stays live"), "{refused}");
    assert_eq!(operator.ask(":promote"), none);
    server.put(&bytes);
    let begun = operator.ask(":canary 10%");
    assert!(begun.starts_with("canary generation "), "{begun}");
    let again = operator.ask(":canary 50%");
    assert!(
        again.ends_with(" is a canary: `:promote` or `:abandon` it first"),
        "{again}"
    );
}

#[test]
fn the_end_gives_a_canary_up() {
    let (server, mut operator) = server(&[], "other");
    let begun = operator.ask(":canary 50%");
    assert!(begun.starts_with("canary generation 2 "), "{begun}");
    server.signal(Signal::INT);
    operator.is_closed();
    let (code, err) = server.ends();
    assert_eq!(code, Some(0));
    for (start, part) in [
        ("abandoned generation 2 ", ": canary: the server ends ("),
        ("unloaded generation 1 ", ""),
        ("unloaded generation 2 ", ""),
    ] {
        let is_said = |line: &String| line.starts_with(start) && line.contains(part);
        assert!(err.iter().any(is_said), "{start}: {err:?}");
    }
}
