//! What the demo says to programs.

use hotswap_core::{Hotswap, Limits, Policy, Settings, Trust, services::ServiceSettings};
use hotswap_types::Plugin;
use serde_json::{Value, json};

use crate::demo::{Demo, SOON, plugin};

/// The next object of this event, after any others.
#[track_caller]
fn next(demo: &Demo, event: &str) -> Value {
    loop {
        let line = demo.says("{");
        let object: Value = serde_json::from_str(&line).expect("one object a line");
        if object["event"] == event {
            return object;
        }
    }
}

/// An event without what every event has, but for its name and generation. The time must be there.
fn particulars(mut event: Value) -> Value {
    let fields = event.as_object_mut().unwrap();
    let at = fields.remove("at_ms");
    assert!(at.and_then(|at| at.as_u64()) > Some(1_000_000_000_000));
    for field in ["version", "build_id", "sha256"] {
        fields.remove(field).unwrap();
    }
    if fields["generation"].is_null() {
        fields.remove("generation");
    }
    event
}

#[test]
fn every_line_is_an_object() {
    let mut demo = Demo::start(&["--events", "json"], &plugin("shipped"));
    let shipped = plugin("shipped").display().to_string();
    let accepted = next(&demo, "accepted");
    assert_eq!(accepted["generation"], 1);
    assert_eq!(accepted["path"], json!(shipped));
    assert!(
        accepted["phases"]["link_us"].as_u64().unwrap() > 0,
        "{accepted}"
    );

    demo.type_line("/no/such.so");
    let expected = json!({
        "event": "refused", "path": "/no/such.so", "stage": "open", "kind": "not_found", "data": {"is_link": false},
        "reason": "open: no such file", "setting": null, "live": 1,
    });
    assert_eq!(particulars(next(&demo, "refused")), expected);

    demo.type_line(plugin("faulty"));
    assert_eq!(next(&demo, "accepted")["generation"], 2);
    let unloaded = next(&demo, "unloaded");
    assert_eq!(unloaded["generation"], 1);
    assert!(unloaded["after_us"].as_u64().unwrap() > 0, "{unloaded}");
    let fault = next(&demo, "fault");
    assert_eq!(fault["generation"], 2);
    let message = fault["message"].as_str().unwrap();
    assert!(
        message.starts_with("some_fn: panicked: no answer\nto 7 ("),
        "{message}"
    );

    demo.type_line(":rollback");
    let expected = json!({
        "event": "rolled-back", "generation": 2, "live": 3, "loaded_again": 1, "why": null,
    });
    assert_eq!(particulars(next(&demo, "rolled-back")), expected);

    demo.type_line(":versions");
    let versions = next(&demo, "versions");
    let states = versions["generations"].as_array().unwrap().iter();
    let states: Vec<_> = states
        .map(|it| (it["number"].as_u64(), it["loaded_again"].as_u64()))
        .collect();
    assert_eq!(
        states,
        [(Some(1), None), (Some(2), None), (Some(3), Some(1))]
    );
    assert_eq!(versions["generations"][0]["state"], "unloaded");
    assert_eq!(
        versions["generations"][0]["sha256"].as_str().unwrap().len(),
        64
    );
    assert_eq!(versions["refused"][0]["reason"], "open: no such file");

    demo.type_line(":what");
    assert_eq!(
        next(&demo, "note")["text"],
        "unknown command :what; :help lists the commands"
    );
    demo.end_input();
    let (code, rest) = demo.ends();
    assert_eq!(code, Some(0));
    for line in rest {
        serde_json::from_str::<Value>(&line).expect("one object a line");
    }
}

#[test]
fn a_canary_has_a_form_for_programs() {
    let options = ["--events", "json", "--canary", "100%"];
    let mut demo = Demo::start(&options, &plugin("shipped"));
    let other = plugin("other");
    demo.type_line(&other);
    let path = other.display().to_string();
    let expected = json!({"event": "canary", "generation": 2, "path": path, "share": 1.0});
    assert_eq!(particulars(next(&demo, "canary")), expected);
    let expected = json!({"event": "answering", "generation": 2, "side": "candidate"});
    assert_eq!(next(&demo, "answering"), expected);
    demo.prints_soon("Adding to 20: 27");
    demo.type_line(":figures");
    let mut figures = next(&demo, "figures");
    let candidate = figures["candidate"].take();
    assert!(candidate["calls"].as_u64() >= Some(2), "{candidate}");
    let nothing = json!({"calls": 0, "faults": 0, "p50_us": 0, "p90_us": 0, "p99_us": 0});
    let expected = json!({
        "event": "figures", "generation": 2, "share": 1.0, "candidate": null, "live": nothing,
    });
    assert_eq!(figures, expected);
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn static_tls_has_a_form_for_programs() {
    let mut demo = Demo::start(&["--events", "json"], &plugin("shipped"));
    demo.type_line(plugin("needs_static_tls"));
    let mut event = next(&demo, "static-tls");
    let bytes = event["bytes"].take();
    assert!(bytes.as_u64() >= Some(400), "{bytes}");
    assert_eq!(
        particulars(event),
        json!({"event": "static-tls", "generation": 2, "bytes": null})
    );
    demo.type_line(":versions");
    let versions = next(&demo, "versions");
    let of_each = versions["generations"].as_array().unwrap().iter();
    let of_each: Vec<_> = of_each.map(|it| &it["static_tls_bytes"]).collect();
    assert_eq!(of_each, [&Value::Null, &bytes]);
    demo.end_input();
    assert_eq!(demo.ends().0, Some(0));
}

#[test]
fn what_stays_mapped_has_a_form_for_programs() {
    let policy = Policy {
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: it is a plugin of ours.
    let trust = unsafe { Trust::vouch(policy) };
    let settings = Settings {
        limits: Limits {
            retired_images_max: 20,
            retired_bytes_max: 1 << 40,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let path = plugin("shipped");
    let plugin: Hotswap<dyn Plugin> = Hotswap::load_with(&path, &trust, settings).unwrap();
    let events = plugin.events();
    let mut events = events
        .try_iter()
        .map(|it| serde_json::to_value(it).unwrap());
    let mut leases = Vec::new();
    let retained = loop {
        if let Some(retained) = events.find(|it| it["event"] == "retained") {
            break particulars(retained);
        }
        leases.push(plugin.lease());
        plugin.swap(&path).unwrap();
    };
    // Images are counted for the whole process, and other tests may have some that are leaving.
    let (images, bytes) = (&retained["images"], &retained["bytes"]);
    assert!(images.as_u64() >= Some(10), "{retained}");
    assert!(
        bytes.as_u64() > Some(plugin.generations()[0].file_bytes),
        "{retained}"
    );
    let expected = json!({
        "event": "retained", "images": images, "bytes": bytes, "images_max": 20, "bytes_max": 1_u64 << 40,
    });
    assert_eq!(retained, expected);
    drop(leases);
}

#[test]
fn services_and_values_have_a_form_for_programs() {
    let policy = Policy {
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: it is a plugin of ours.
    let trust = unsafe { Trust::vouch(policy) };
    let settings = Settings {
        services: Some(ServiceSettings::default()),
        ..Settings::default()
    };
    let path = plugin("services_word");
    let plugin: Hotswap<dyn Plugin> = Hotswap::load_with(path, &trust, settings).unwrap();
    let events = plugin.events();
    let next = |change: &str| {
        loop {
            let event = serde_json::to_value(events.recv().unwrap()).unwrap();
            if event["name"] == "producer" && event["change"] == change {
                return event;
            }
        }
    };
    let started =
        json!({"event": "service", "name": "producer", "generation": 1, "change": "started"});
    assert_eq!(particulars(next("started")), started);
    let mut services = serde_json::to_value(plugin.services()).unwrap();
    let since = services[0]["since_ms"].take();
    assert!(since.as_u64() > Some(1_000_000_000_000), "{since}");
    assert_eq!(
        services[0],
        json!({
            "name": "producer", "generation": 1, "state": "running", "since_ms": null, "restarts": 0,
            "mentioned": true
        })
    );
    assert_eq!(
        serde_json::to_value(&plugin.refs()[1]).unwrap(),
        json!({"name": "pace", "type_name": "Pace", "generation": null, "bytes": 8, "waiting": null})
    );
    let mapped = plugin.shutdown(SOON);
    assert!(mapped.is_empty(), "{mapped:?}");
    assert!(next("stopped")["after_us"].is_u64());
}

/// What a terminal does not show, as a plugin of the fixtures says it wherever it can.
const HIDDEN: [char; 6] = [
    '\u{202e}', '\u{2066}', '\u{2028}', '\u{200b}', '\u{9b}', '\u{1b}',
];

#[test]
fn what_a_terminal_does_not_show_is_escaped_in_both_forms() {
    for options in [&[][..], &["--events", "json"]] {
        let mut demo = Demo::start(options, &plugin("hidden"));
        let fault = match options {
            [] => demo.says("fault generation 1: "),
            _ => next(&demo, "fault").to_string(),
        };
        assert!(
            fault.contains("202e") && !fault.contains(HIDDEN),
            "{fault:?}"
        );
        let printed = demo.prints();
        assert!(
            printed.contains("202e") && !printed.contains(HIDDEN),
            "{printed:?}"
        );
        // Its hook panics.
        demo.type_line(":quit");
        let (_, lines) = demo.ends();
        let lines = lines.join("\n");
        assert!(
            lines.contains("202e") && !lines.contains(HIDDEN),
            "{lines:?}"
        );
    }
}

#[test]
fn what_a_terminal_does_not_show_is_escaped_in_services_and_values() {
    let policy = Policy {
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: it is a plugin of ours.
    let trust = unsafe { Trust::vouch(policy) };
    let settings = Settings {
        services: Some(ServiceSettings::default()),
        ..Settings::default()
    };
    let path = plugin("hidden");
    let plugin: Hotswap<dyn Plugin> = Hotswap::load_with(path, &trust, settings).unwrap();
    let events = plugin.events();
    let mut told = vec![
        serde_json::to_string(&plugin.services()).unwrap(),
        serde_json::to_string(&plugin.refs()).unwrap(),
    ];
    let is_so = |told: &[String], what: &str| told.last().is_some_and(|it| it.contains(what));
    while !is_so(&told, r#""how":"failed""#) {
        told.push(serde_json::to_string(&events.recv().unwrap()).unwrap());
    }
    let mapped = plugin.shutdown(SOON);
    assert!(mapped.is_empty(), "{mapped:?}");
    while !is_so(&told, "hook-panicked") {
        told.push(serde_json::to_string(&events.recv().unwrap()).unwrap());
    }
    for told in &told {
        assert!(!told.contains(HIDDEN), "{told:?}");
    }
}
