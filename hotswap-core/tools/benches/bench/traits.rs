//! Measures calls of a trait, each beside what it is compared with: the same call of a root module, or a copy of the
//! value in the host.
//!
//! In each round, both sides of a pair get a turn of about a millisecond; each round begins with another pair. Figures
//! are medians over the rounds; a ratio is taken within a round.

use std::{
    cell::Cell,
    hint::black_box,
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use hotswap_core::{HostServices, Hotswap, Settings, canary::Share};
use hotswap_fixtures::measured::{Counter, Measured, RawMeasuredRef, Record, following, items};
use hotswap_sdk::BoxFuture;

use crate::{
    Effort, Result, place,
    rows::{Rows, median},
};

const TURN: Duration = Duration::from_millis(1);

const TEXT: &str = "sixty-four bytes of text, which is about what a short answer has";

/// The time of a call of the trait, of what it is compared with, and the ratio of the two.
pub(crate) const NS: &str = "ns";
pub(crate) const COMPARED_NS: &str = "compared ns";
pub(crate) const RATIO: &str = "× compared";

/// The cases, and what each is compared with.
pub(crate) const CASES: [(&str, &str); 14] = [
    (NUMBER, "the raw call, with its panic caught"),
    (BESIDE_CANARY, "the raw call, with its panic caught"),
    (CHOICE, "the raw call, with its panic caught"),
    (CANARY_CHOICE, "the raw call, with its panic caught"),
    (OBJECT, "the raw call, with its panic caught"),
    (SERVICE, "the raw call, with its panic caught"),
    (TEXT_COPIED, "the raw call, and a copy"),
    (NUMBERS, "the raw call, with its panic caught"),
    (RECORD, "cloning it"),
    (ITEMS_GIVEN, "cloning them"),
    (ITEMS_RETURNED, "making and cloning them"),
    (ASYNC, "that future of the host's own, in a box"),
    (LINE, "that line of the host's own, with the same fields"),
    (DISABLED_LINE, "that line of the host's own"),
];

pub(crate) const NUMBER: &str = "`u64` to `u64`";
pub(crate) const BESIDE_CANARY: &str = "`u64` to `u64` beside a canary";
pub(crate) const CHOICE: &str = "the same under a choice of its own; no canary";
pub(crate) const CANARY_CHOICE: &str = "the same under a choice of its own; a canary has half";
pub(crate) const OBJECT: &str = "an object's method";
pub(crate) const SERVICE: &str = "a plugin's call of a service of the host";
pub(crate) const TEXT_COPIED: &str = "`&str` to `String`: 64 bytes";
pub(crate) const NUMBERS: &str = "`&[u64]`: ten thousand numbers";
pub(crate) const RECORD: &str = "`&Record`: 10 fields";
pub(crate) const ITEMS_GIVEN: &str = "`&[Item]`: a thousand structs";
pub(crate) const ITEMS_RETURNED: &str = "to `Vec<Item>`: a thousand structs";
pub(crate) const ASYNC: &str = "an async method that is ready at once";

pub(crate) const LINE: &str = "a line of a log";
pub(crate) const DISABLED_LINE: &str = "a line of a log whose level is disabled";

/// The async method, in the host's own code.
trait Own {
    fn next_async(&self, number: u64) -> BoxFuture<'_, u64>;
}

struct Host;

impl Counter for Host {
    fn next(&self, number: u64) -> u64 {
        following(number)
    }
}

impl Own for Host {
    fn next_async(&self, number: u64) -> BoxFuture<'_, u64> {
        Box::pin(async move { number + 1 })
    }
}

/// The result of a future that is ready at once.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it is ready at once"),
    }
}

/// What the plugin that is measured takes from its host.
pub(crate) fn host_services() -> HostServices {
    HostServices::new().with::<dyn Counter>(Arc::new(Host))
}

/// A loop of so many calls.
type Batch<'a> = Box<dyn Fn(u64) -> Duration + 'a>;

pub(crate) fn run(effort: Effort, rows: &mut Rows) -> Result {
    // What most hosts have, but for what the lines are written to.
    tracing_subscriber::fmt().with_writer(io::sink).init();
    let path = place::fixture("measured")?;
    let load = || {
        let settings = Settings {
            host_services: host_services(),
            ..Settings::default()
        };
        Hotswap::<dyn Measured>::load_with(&path, &place::trust(), settings)
    };
    let plugin = load()?;
    let split = load()?;
    let canary = split.prepare(&path)?.start_canary(Share::percent(50))?;
    let key = Cell::new(0_u64);
    let raw: Hotswap<RawMeasuredRef> = place::load(&place::fixture("measured_raw")?)?;
    let counter = plugin.with(|it| it.counter());
    let numbers: Vec<u64> = (0..10_000).collect();
    let thousand = items(1_000);
    let record = Record {
        article: "a pound of tea".to_owned(),
        note: Some("to be sent by mail".to_owned()),
        ..Record::default()
    };
    let own: &dyn Own = &Host;
    let raw_next = || batch(|| raw.with(|it| it.next()(black_box(7)).unwrap()));
    let pairs: [(Batch<'_>, Batch<'_>); CASES.len()] = [
        (
            batch(|| plugin.with(|it| it.next(black_box(7)))),
            raw_next(),
        ),
        (batch(|| split.with(|it| it.next(black_box(7)))), raw_next()),
        (
            batch(|| {
                plugin
                    .choose(&black_box(7))
                    .with(|it| it.next(black_box(7)))
            }),
            raw_next(),
        ),
        (
            batch(|| {
                key.set(key.get() + 1);
                split.choose(&key.get()).with(|it| it.next(black_box(7)))
            }),
            raw_next(),
        ),
        (batch(|| counter.next(black_box(7))), raw_next()),
        (
            Box::new(|calls| {
                let started = Instant::now();
                black_box(plugin.with(|it| it.ask_host(black_box(calls))));
                started.elapsed()
            }),
            raw_next(),
        ),
        (
            batch(|| plugin.with(|it| it.text(black_box(TEXT)))),
            batch(|| {
                raw.with(|it| {
                    it.text()(black_box(TEXT).into())
                        .unwrap()
                        .as_str()
                        .to_owned()
                })
            }),
        ),
        (
            batch(|| plugin.with(|it| it.sum(black_box(&numbers)))),
            batch(|| raw.with(|it| it.sum()(black_box(&*numbers).into()).unwrap())),
        ),
        (
            batch(|| plugin.with(|it| it.record(black_box(&record)))),
            batch(|| black_box(&record).clone()),
        ),
        (
            batch(|| plugin.with(|it| it.items(black_box(&thousand)))),
            batch(|| black_box(&thousand).clone()),
        ),
        (
            batch(|| plugin.with(|it| it.make_items(black_box(1_000)))),
            batch(|| items(black_box(1_000)).clone()),
        ),
        (
            batch(|| ready(plugin.call_async(|it| it.next_async(black_box(7))))),
            batch(|| ready(black_box(own).next_async(black_box(7)))),
        ),
        (
            lines(|lines| plugin.with(|it| it.log(lines))),
            lines(|lines| {
                for order in 0..lines {
                    let (plugin, generation) = ("libmeasured.so", 1_u64);
                    tracing::info!(order, %plugin, generation, "judged");
                }
            }),
        ),
        (
            lines(|lines| plugin.with(|it| it.log_debug(lines))),
            lines(|lines| {
                for order in 0..lines {
                    tracing::debug!(order = black_box(order), "judged");
                }
            }),
        ),
    ];
    let rounds = effort.choose(20, 200);
    let calls = pairs
        .each_ref()
        .map(|(ours, other)| [calls_in_a_turn(ours), calls_in_a_turn(other)]);
    let mut measured = vec![Vec::new(); pairs.len()];
    for round in 0..rounds {
        for place in 0..pairs.len() {
            let place = (place + round) % pairs.len();
            let ((ours, other), calls) = (&pairs[place], calls[place]);
            let turn =
                |batch: &Batch<'_>, calls: u64| batch(calls).as_secs_f64() * 1e9 / calls as f64;
            measured[place].push((turn(ours, calls[0]), turn(other, calls[1])));
        }
    }
    drop(canary);
    for ((case, _), turns) in CASES.into_iter().zip(&measured) {
        rows.add(case, 0, NS, median(turns.iter().map(|it| it.0)));
        rows.add(case, 0, COMPARED_NS, median(turns.iter().map(|it| it.1)));
        rows.add(case, 0, RATIO, median(turns.iter().map(|it| it.0 / it.1)));
    }
    Ok(())
}

fn batch<'a, T>(call: impl Fn() -> T + 'a) -> Batch<'a> {
    Box::new(move |calls| {
        let started = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        started.elapsed()
    })
}

/// One call that logs so many lines.
fn lines<'a>(log: impl Fn(u64) + 'a) -> Batch<'a> {
    Box::new(move |lines| {
        let started = Instant::now();
        log(lines);
        started.elapsed()
    })
}

/// How many calls take about [`TURN`].
fn calls_in_a_turn(batch: &Batch<'_>) -> u64 {
    let mut calls = 1;
    loop {
        let took = batch(calls);
        if took >= TURN / 4 {
            return (calls as f64 * TURN.as_secs_f64() / took.as_secs_f64()).ceil() as u64;
        }
        calls *= 2;
    }
}
