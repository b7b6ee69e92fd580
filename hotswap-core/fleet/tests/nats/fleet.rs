//! A server, hosts, and what is rolled out to them.

use std::{collections::BTreeMap, time::Duration};

use async_nats::ConnectOptions;
use hotswap_fleet::{
    controller::{Controller, View},
    decision::Seen,
    rollout::{Phase, Reach, Release, Ring, RolloutLimits, RolloutRecord},
    status::{AnswerOutcome, Nack},
    store::Store,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    builds::{Build, Key, PLUGIN},
    hosts::Host,
    servers::Servers,
};

/// Long enough for anything that must happen, on any machine.
pub(crate) const SOON: Duration = Duration::from_secs(300);
/// Between two looks.
pub(crate) const MOMENT: Duration = Duration::from_millis(20);

/// The builds that fault are halted by one call in a hundred more.
const FAULTS_MAX: f64 = 0.01;

/// A fleet. All of it ends when it is dropped.
pub(crate) struct Fleet {
    pub(crate) hosts: Vec<Host>,
    pub(crate) servers: Servers,
    pub(crate) store: Store,
    pub(crate) key: Key,
    pub(crate) root: TempDir,
}

impl Fleet {
    /// A server and so many hosts, which are told this besides, and run the good build 1.
    pub(crate) async fn with(hosts: usize, more: Value) -> Self {
        let mut it = Self::on(Servers::one(), ConnectOptions::new(), 1).await;
        it.add_hosts(hosts, &more).await;
        it
    }

    /// Adds so many hosts, and brings them the good build 1.
    pub(crate) async fn add_hosts(&mut self, hosts: usize, more: &Value) {
        for index in 0..hosts {
            self.add_host(&format!("host-{index}"), more).start();
        }
        self.alive(hosts).await;
        let first = self.publish(&self.key.build("good", 1)).await;
        self.begin(first, "100%").await;
        self.run_until_ended(Phase::Done).await;
    }

    /// Without hosts, on these servers, connected in this way.
    pub(crate) async fn on(servers: Servers, options: ConnectOptions, replicas: usize) -> Self {
        let store = Store::new(connect(&servers.url(), options).await);
        // A cluster elects a leader first.
        let what = || "the streams are not there".to_owned();
        soon(what, async || store.init(replicas).await.ok()).await;
        Self {
            hosts: Vec::new(),
            servers,
            store,
            key: Key::new(),
            root: TempDir::new().expect("a folder"),
        }
    }

    /// Adds a host that is not started.
    pub(crate) fn add_host(&mut self, name: &str, more: &Value) -> &mut Host {
        let public_key = self.key.public().to_string();
        let server = self.servers.url();
        let host = Host::new(name, self.root.path(), &server, &public_key, more);
        self.hosts.push(host);
        self.hosts.last_mut().expect("just pushed")
    }

    pub(crate) fn controller(&self) -> Controller {
        Controller::new(self.store.clone(), PLUGIN, "the tests").expect("a name")
    }

    /// Waits until so many hosts are alive.
    pub(crate) async fn alive(&self, count: usize) {
        let what = || format!("not {count} hosts are alive: {}", self.errors());
        soon(what, async || {
            let hosts = self.seen().await;
            let alive = hosts.iter().filter(|it| it.is_alive(now_ms()));
            (alive.count() == count).then_some(())
        })
        .await;
    }

    pub(crate) async fn publish(&self, build: &Build) -> Release {
        let published = self.store.publish(&build.bytes, &build.signature).await;
        assert_eq!(published.expect("the server is there"), build.sha256());
        build.release()
    }

    /// The same once the server is there.
    pub(crate) async fn publish_soon(&self, build: &Build) -> Release {
        let what = || "the server does not come".to_owned();
        let publish = async || {
            self.store
                .publish(&build.bytes, &build.signature)
                .await
                .ok()
        };
        soon(what, publish).await;
        build.release()
    }

    /// Begins a roll-out that waits for nothing but the hosts.
    pub(crate) async fn begin(&self, target: Release, rings: &str) -> RolloutRecord {
        self.begin_with_limits(target, rings, limits()).await
    }

    /// Begins one that stays in its first ring.
    pub(crate) async fn begin_slowly(&self, target: Release, rings: &str) -> RolloutRecord {
        let limits = RolloutLimits {
            soak_ms: 2 * SOON.as_millis() as u64,
            ..limits()
        };
        self.begin_with_limits(target, rings, limits).await
    }

    async fn begin_with_limits(
        &self,
        target: Release,
        rings: &str,
        limits: RolloutLimits,
    ) -> RolloutRecord {
        let rings = rings
            .split(',')
            .map(|it| it.parse::<Ring>().expect("a ring"));
        let controller = self.controller();
        let begun = controller.begin(target, rings.collect(), limits).await;
        begun.expect("nothing is under way")
    }

    /// Carries the roll-out on until it has ended in this way, and gives the last look.
    pub(crate) async fn run_until_ended(&self, phase: Phase) -> View {
        let view = self.run_until(|view| view.rollout.has_ended()).await;
        assert_eq!(
            view.rollout.phase, phase,
            "{}: {view:#?}",
            view.rollout.what
        );
        view
    }

    /// Carries the roll-out on until a look shows this.
    pub(crate) async fn run_until(&self, is_seen: impl FnMut(&View) -> bool) -> View {
        self.look_until(true, is_seen).await
    }

    /// Looks until there is this to be seen.
    pub(crate) async fn watch_until(&self, is_seen: impl FnMut(&View) -> bool) -> View {
        self.look_until(false, is_seen).await
    }

    async fn look_until(&self, acts: bool, mut is_seen: impl FnMut(&View) -> bool) -> View {
        let mut last = None;
        let controller = self.controller();
        let run = controller.run(acts, |view| {
            last = Some(view.clone());
            is_seen(view)
        });
        match timeout(SOON, run).await {
            Ok(Ok(())) => last.expect("it has looked"),
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => panic!("waiting in vain: {last:#?}\n{}", self.errors()),
        }
    }

    /// What each host has said last.
    pub(crate) async fn seen(&self) -> Vec<Seen> {
        self.store.hosts(PLUGIN).await.expect("the server is there")
    }

    /// What a host has refused, in this look.
    pub(crate) fn refusal<'a>(&self, view: &'a View, host: &str) -> &'a Nack {
        let seen = view.hosts.iter().find(|it| it.status.host == host);
        let answer = seen.and_then(|it| it.status.answer.as_ref());
        match answer.map(|it| &it.outcome) {
            Some(AnswerOutcome::Refused(refusal)) => refusal,
            other => panic!("{host} says {other:?}"),
        }
    }

    /// The log of a host, in words.
    pub(crate) async fn log_of(&self, host: &str) -> Vec<String> {
        let log = self.store.log(PLUGIN).await.expect("the server is there");
        let entries = log.into_iter().filter(|it| it.host == host);
        entries.map(|it| it.text).collect()
    }

    /// Waits until all events of all hosts are in the log. Panics if one is there twice.
    pub(crate) async fn until_log_is_whole(&self) {
        let what = || "events are missing in the log".to_owned();
        soon(what, async || {
            let numbers = self.log_numbers().await.ok()?;
            let is_whole = |it: &Vec<u64>| it.iter().copied().eq(0..it.len() as u64);
            numbers.values().all(is_whole).then_some(())
        })
        .await;
    }

    /// The numbers of each process's events, in the order in which they are in the log.
    async fn log_numbers(&self) -> Result<BTreeMap<String, Vec<u64>>, async_nats::Error> {
        let jetstream = async_nats::jetstream::new(self.store.client().clone());
        let mut stream = jetstream.get_stream("HOTSWAP_LOG").await?;
        let state = stream.info().await?.state.clone();
        let mut numbers = BTreeMap::<String, Vec<u64>>::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await?;
            let id = message.headers.get("Nats-Msg-Id");
            let id = id.expect("it has an identifier").as_str();
            let (process, number) = id.split_once('-').expect("two parts");
            let number = number.parse().expect("a number");
            let all = numbers.entry(process.to_owned()).or_default();
            assert!(!all.contains(&number), "{id} is there twice");
            all.push(number);
        }
        Ok(numbers)
    }

    /// The host that a ring of one reaches with this build.
    pub(crate) fn first_host(&mut self, build: &Release) -> &mut Host {
        let position = |it: &&mut Host| Reach::position(&it.name, &build.sha256);
        self.hosts
            .iter_mut()
            .min_by_key(position)
            .expect("there are hosts")
    }

    /// All changes of the record, in words.
    pub(crate) async fn changes(&self) -> Vec<String> {
        let changes = self.store.changes(PLUGIN).await;
        let changes = changes.expect("the server is there");
        let numbers: Vec<_> = changes.iter().map(|it| it.change).collect();
        let expected: Vec<_> = (1..=changes.len() as u64).collect();
        assert_eq!(numbers, expected, "each change comes after the one before");
        changes.into_iter().map(|it| it.what).collect()
    }

    /// Waits until each host runs this build, as it says itself.
    pub(crate) async fn all_run(&self, serial: u64) {
        for host in &self.hosts {
            host.until_runs(serial).await;
        }
    }

    fn errors(&self) -> String {
        let errors = self
            .hosts
            .iter()
            .map(|it| format!("{}:\n{}", it.name, it.err()));
        errors.collect()
    }
}

/// Nothing is waited for, no host may fail.
pub(crate) fn limits() -> RolloutLimits {
    RolloutLimits {
        soak_ms: 0,
        answer_timeout_ms: SOON.as_millis() as u64,
        failed_hosts_max: Some(0),
        fault_ratio_excess_max: Some(FAULTS_MAX),
    }
}

/// Connects once the server is there.
pub(crate) async fn connect(url: &str, options: ConnectOptions) -> async_nats::Client {
    let servers: Vec<async_nats::ServerAddr> = url
        .split(',')
        .map(|it| it.parse().expect("a URL"))
        .collect();
    let connected = options
        .retry_on_initial_connect()
        .max_reconnects(None)
        .connect(servers)
        .await;
    connected.expect("it is tried again")
}

/// Tries until it gives something.
pub(crate) async fn soon<T>(what: impl Fn() -> String, mut f: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(it) = f().await {
            return it;
        }
        assert!(begun.elapsed() < SOON, "{}", what());
        sleep(MOMENT).await;
    }
}

pub(crate) fn now_ms() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    since.as_millis() as u64
}

/// Hosts that try a build in a process of its own first.
pub(crate) fn with_trial() -> Value {
    json!({ "has_trial": true })
}
