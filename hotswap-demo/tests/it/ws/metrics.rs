//! What Prometheus scrapes from `ws_server`, and the dashboard that shows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    path::Path,
    thread,
    time::Instant,
};

use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use super::{
    query::{Selector, selectors},
    server::Server,
};
use crate::demo::{SOON, plugin};

/// All metrics, and their types, as the server with buckets has them.
const METRICS: [(&str, &str); 17] = [
    ("hotswap_canary_call_duration_seconds", "histogram"),
    ("hotswap_canary_calls_total", "counter"),
    ("hotswap_canary_faults_total", "counter"),
    ("hotswap_canary_share_ratio", "gauge"),
    ("hotswap_events_total", "counter"),
    ("hotswap_faults_total", "counter"),
    ("hotswap_holders", "gauge"),
    ("hotswap_live_generation", "gauge"),
    ("hotswap_mapped_generations", "gauge"),
    ("hotswap_missed_events_total", "counter"),
    ("hotswap_pinned_generations", "gauge"),
    ("hotswap_refusals_total", "counter"),
    ("hotswap_rollbacks_total", "counter"),
    ("hotswap_swap_duration_seconds", "histogram"),
    ("hotswap_swap_phase_duration_seconds", "histogram"),
    ("hotswap_swaps_total", "counter"),
    ("hotswap_unload_duration_seconds", "histogram"),
];

/// The labels that Prometheus itself gives to what it scrapes.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// What was scraped.
struct Scraped {
    /// By name.
    types: BTreeMap<String, String>,
    /// The value of each series.
    series: BTreeMap<String, f64>,
}

/// The head and the body of an answer.
fn get(server: &Server, target: &str, host: &str) -> (String, String) {
    let mut stream = server.stream();
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Every line is a comment or the value of a series, and the type of a series comes before it.
#[track_caller]
fn scrape(server: &Server) -> Scraped {
    let (head, text) = get(server, "/metrics", "localhost");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let form = "content-type: text/plain; version=0.0.4; charset=utf-8\r\n";
    assert!(head.contains(form), "{head}");
    let mut scraped = Scraped {
        types: BTreeMap::new(),
        series: BTreeMap::new(),
    };
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            scraped.types.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|it| name.strip_suffix(it))
                .unwrap_or(name);
            assert!(scraped.types.contains_key(family), "{line}");
            assert!(series.contains("{plugin=\"ws_server\""), "{line}");
            let value = value.parse().unwrap();
            scraped.series.insert(series.to_owned(), value);
        }
    }
    scraped
}

impl Scraped {
    /// The value of a series of the server's plugin; `label` as in `stage="open"`.
    fn value(&self, name: &str, label: &str) -> Option<f64> {
        let separator = if label.is_empty() { "" } else { "," };
        let series = format!("{name}{{plugin=\"ws_server\"{separator}{label}}}");
        self.series.get(&series).copied()
    }

    /// The labels of the series of this name.
    fn labels(&self, name: &str) -> BTreeSet<&str> {
        let of_name = |series: &&String| series.split('{').next() == Some(name);
        let all = self.series.keys().filter(of_name);
        let labels = all.flat_map(|it| {
            let labels = it.split(['{', '}']).nth(1).unwrap().split("\",");
            labels.map(|it| it.split('=').next().unwrap())
        });
        labels.collect()
    }
}

#[track_caller]
fn scrape_until(server: &Server, mut has_come: impl FnMut(&Scraped) -> bool) -> Scraped {
    let latest = Instant::now() + SOON;
    loop {
        let scraped = scrape(server);
        if has_come(&scraped) {
            return scraped;
        }
        let is_no_bucket = |(series, _): &(&String, &f64)| !series.contains("_bucket{");
        let seen = scraped.series.iter().filter(is_no_bucket);
        assert!(Instant::now() < latest, "{:#?}", Vec::from_iter(seen));
        thread::yield_now();
    }
}

#[test]
fn swaps_are_scraped_while_they_happen() {
    let server = Server::with("shipped");
    let mut client = server.connect();
    let shipped = fs::read(server.plugin()).unwrap();
    let other = fs::read(plugin("other")).unwrap();
    for (swaps, bytes) in (2..10).zip([&other, &shipped].into_iter().cycle()) {
        server.put(bytes);
        client.send(":reload");
        // Beside it, at whatever moment: nothing goes back.
        let beside = scrape(&server);
        assert!(client.hears().starts_with("accepted "));
        let after = scrape_until(&server, |it| {
            it.value("hotswap_live_generation", "") == Some(swaps.into())
        });
        let accepted = |it: &Scraped| it.value("hotswap_swaps_total", "").unwrap();
        assert!(accepted(&beside) <= accepted(&after));
        assert_eq!(accepted(&after), f64::from(swaps));
        assert_eq!(
            after.value("hotswap_mapped_generations", "state=\"live\""),
            Some(1.0)
        );
        assert_eq!(
            after.value("hotswap_swap_duration_seconds_count", ""),
            Some(swaps.into())
        );
    }
    server.put(&other[..other.len() / 2]);
    assert!(client.ask(":reload").starts_with("refused "));
    let refused = scrape(&server);
    assert_eq!(
        refused.value("hotswap_refusals_total", "stage=\"inspect\""),
        Some(1.0)
    );
    assert_eq!(
        refused.value("hotswap_refusals_total", "stage=\"open\""),
        Some(0.0)
    );
}

#[test]
fn the_dashboard_shows_what_is_scraped() {
    // It stays mapped when it is replaced.
    let server = Server::with("misbehaving_to_the_end");
    let (mut client, mut flood) = (server.connect(), server.connect());
    server.put(&fs::read(plugin("shipped")).unwrap());
    assert!(client.ask(":reload").starts_with("accepted generation 2"));
    // It has the metrics of a canary's side from its first call on.
    assert!(
        client
            .ask(":canary 50%")
            .starts_with("canary generation 3 ")
    );
    client.ask("hi");
    assert!(
        client
            .ask(":abandon")
            .starts_with("abandoned generation 3: ")
    );
    // Who does not read keeps the lease for an answer, once there is no room for it on the way: then the generation
    // that is live stays when it is replaced.
    flood.0.get_mut().set_nonblocking(true).unwrap();
    let message = Message::text("x".repeat(60_000));
    let scraped = scrape_until(&server, |it| {
        while flood.0.send(message.clone()).is_ok() {}
        assert!(client.ask(":reload").starts_with("accepted generation "));
        let pinned = it.value("hotswap_pinned_generations", "reason=\"library\"");
        let unloaded = it.value("hotswap_unload_duration_seconds_count", "");
        let held = it.value("hotswap_holders", "holder=\"leases\"");
        pinned == Some(1.0) && unloaded > Some(0.0) && held == Some(1.0)
    });
    let types = scraped.types.iter().map(|(name, kind)| (&**name, &**kind));
    assert_eq!(Vec::from_iter(types), METRICS);

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ws_server");
    let dashboard = fs::read(folder.join("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_slice(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut shown = BTreeSet::new();
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let selectors = selectors(query).unwrap_or_else(|error| panic!("{query}: {error}"));
            for Selector { name, labels } in selectors {
                let there = scraped.labels(&name);
                assert!(!there.is_empty(), "{query}: there is no {name}");
                for label in &labels {
                    assert!(there.contains(&**label), "{query}: {name} has no {label}");
                }
                assert!(labels.contains("plugin"), "{query}: of which plugin?");
                let family = METRICS.iter().find(|(it, _)| name.starts_with(it));
                shown.insert(family.unwrap().0);
            }
            // What the legend names is a label of the result.
            let legend = target["legendFormat"].as_str().unwrap();
            for label in legend.split("{{").skip(1) {
                let label = label.split("}}").next().unwrap();
                let is_there = query.contains(label) || OF_PROMETHEUS.contains(&label);
                assert!(is_there, "{query} has no {label} for {legend}");
            }
        }
    }
    assert_eq!(Vec::from_iter(shown), METRICS.map(|(name, _)| name));
}

#[test]
fn other_sites_scrape_nothing() {
    let server = Server::with("shipped");
    let (head, text) = get(&server, "/metrics", "evil.example:80");
    assert!(head.starts_with("HTTP/1.1 421 "), "{head}");
    assert_eq!(
        text,
        "unknown host \"evil.example:80\"; --host adds a name\n"
    );
}
