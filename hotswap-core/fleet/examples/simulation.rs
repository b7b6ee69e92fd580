//! Many agents with a connection each, a stub in place of the plugin, and one roll-out to all of them.
//! `scripts/fleet-load` starts it, with a server, and prints what it prints.
//!
//! ```sh
//! simulation ADDRESS MONITORING_PORT PROCESS FOLDER AGENTS
//! ```

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use async_nats::ConnectOptions;
use hotswap_core::{PublicKey, Sha256};
use hotswap_fleet::{
    agent::{self, AgentSettings, StopSignal, Target, TargetEvent},
    controller::{Controller, View},
    rollout::{Phase, Release, Ring, RolloutLimits},
    status::{BuildFigures, Live, Mapped, Nack},
    store::Store,
};
use tokio::{
    sync::{Notify, watch},
    task::LocalSet,
};

const PLUGIN: &str = "plugin";
const HEARTBEAT: Duration = Duration::from_secs(10);
const SOAK: Duration = Duration::from_secs(1);
const FILE_BYTES: usize = 1 << 20;
/// Each has a thread, a runtime, and its part of the agents.
const RUNTIMES: usize = 2;
/// How many agents of a runtime connect at the same time.
const CONNECTING_MAX: usize = 50;
const RINGS: [&str; 5] = ["check", "canary=1", "1%", "10%", "100%"];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, monitoring_port, process, folder, agents] = &arguments[..] else {
        anyhow::bail!("usage: simulation ADDRESS MONITORING_PORT PROCESS FOLDER AGENTS");
    };
    let server = Server {
        monitoring_port: monitoring_port.parse()?,
        process: process.parse()?,
    };
    let agents = agents.parse()?;
    let keys = minisign::KeyPair::generate_unencrypted_keypair()?;
    let public_key: PublicKey = keys.pk.to_base64().parse()?;
    let (stop, stopped) = watch::channel(false);
    let threads: Vec<_> = (0..RUNTIMES)
        .map(|runtime| {
            let (address, folder) = (address.clone(), PathBuf::from(folder));
            let (public_key, stopped) = (public_key.clone(), stopped.clone());
            let numbers: Vec<usize> = (0..agents).skip(runtime).step_by(RUNTIMES).collect();
            thread::spawn(move || run_agents(&address, &folder, &public_key, &numbers, &stopped))
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let rolled_out = runtime.block_on(roll_out(address, server, agents, &keys));
    stop.send_replace(true);
    for thread in threads {
        thread.join().expect("a runtime has panicked")?;
    }
    rolled_out
}

/// Runs agents with these numbers until they are told to stop.
fn run_agents(
    address: &str,
    folder: &Path,
    public_key: &PublicKey,
    numbers: &[usize],
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let agents = LocalSet::new();
    agents.block_on(&runtime, async {
        let mut running = Vec::new();
        for numbers in numbers.chunks(CONNECTING_MAX) {
            let connecting = numbers.iter().map(async |number| {
                let options = ConnectOptions::new()
                    .custom_inbox_prefix(format!("_INBOX_host-{number}"))
                    .max_reconnects(None);
                (*number, options.connect(address).await)
            });
            for (number, connected) in futures_util::future::join_all(connecting).await {
                let host = format!("host-{number}");
                let folder = folder.join(&host);
                let settings = AgentSettings {
                    heartbeat: HEARTBEAT,
                    ..AgentSettings::new(PLUGIN, host, folder, public_key.clone())
                };
                let agent = agent::follow(
                    settings,
                    Stub::default(),
                    Store::new(connected?),
                    stopped.clone(),
                );
                running.push(tokio::task::spawn_local(agent));
            }
        }
        for agent in running {
            agent.await??;
        }
        Ok(())
    })
}

/// Publishes a build, brings it to all agents, and prints what that has cost.
async fn roll_out(
    address: &str,
    server: Server,
    agents: usize,
    keys: &minisign::KeyPair,
) -> anyhow::Result<()> {
    let store = Store::new(async_nats::connect(address).await?);
    store.init(1).await?;
    let connecting = Instant::now();
    while store.hosts(PLUGIN).await?.len() < agents {
        ensure!(
            connecting.elapsed() < Duration::from_secs(300),
            "agents are missing"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let all_here = connecting.elapsed();
    // What they cost that have nothing to do.
    let before_idle = server.load()?;
    tokio::time::sleep(2 * HEARTBEAT).await;
    let idle = server.load()?.since(&before_idle);

    let mut bytes = b"stub".to_vec();
    bytes.resize_with(FILE_BYTES, || fastrand::u8(..));
    let comment = format!("name={PLUGIN} serial=1");
    let signature = minisign::sign(Some(&keys.pk), &keys.sk, &bytes[..], Some(&comment), None)?;
    let sha256 = store.publish(&bytes, &signature.into_string()).await?;
    assert_eq!(sha256, Sha256::of(&bytes).to_string());
    let target = Release { sha256, serial: 1 };

    let controller = Controller::new(store, PLUGIN, "simulation")?;
    let rings: Vec<Ring> = RINGS
        .iter()
        .map(|it| it.parse().map_err(anyhow::Error::msg))
        .collect::<Result<_, _>>()?;
    let limits = RolloutLimits {
        soak_ms: SOAK.as_millis() as u64,
        ..RolloutLimits::default()
    };
    let (before, own_before) = (server.load()?, processor_seconds("self")?);
    let begun = Instant::now();
    controller.begin(target, rings, limits).await?;
    let mut all_checked = None;
    let mut last = None;
    let look = |view: &View| {
        let rollout = &view.rollout;
        if last.as_ref() != Some(rollout) {
            eprintln!("{:>6.1} s  {}", begun.elapsed().as_secs_f64(), rollout.what);
            if matches!(rollout.phase, Phase::Soaking { .. }) {
                all_checked.get_or_insert_with(|| begun.elapsed());
            }
            last = Some(rollout.clone());
        }
        rollout.has_ended()
    };
    controller.run(true, look).await?;
    let took = begun.elapsed();
    let phase = last.map(|it| it.phase);
    ensure!(phase == Some(Phase::Done), "it ended as {phase:?}");
    let load = server.load()?.since(&before);
    let own = processor_seconds("self")? - own_before;

    println!(
        "| {agents} | {:.1} s | {:.1} s | {:.1} s | {:.1} s | {:.1} s | {} MB | {} | {} | {} MB | {} MB | {:.0} ms/s | {:.0}/s |",
        all_here.as_secs_f64(),
        all_checked.unwrap_or_default().as_secs_f64(),
        took.as_secs_f64(),
        load.processor_seconds,
        own,
        load.memory_bytes_max / 1_000_000,
        load.in_messages,
        load.out_messages,
        load.in_bytes / 1_000_000,
        load.out_bytes / 1_000_000,
        1000.0 * idle.processor_seconds / (2.0 * HEARTBEAT.as_secs_f64()),
        idle.in_messages as f64 / (2.0 * HEARTBEAT.as_secs_f64()),
    );
    Ok(())
}

/// What a server has done so far.
#[derive(Debug)]
struct Load {
    processor_seconds: f64,
    memory_bytes_max: u64,
    in_messages: u64,
    out_messages: u64,
    in_bytes: u64,
    out_bytes: u64,
}

/// The server, where it says what it does.
#[derive(Clone, Copy)]
struct Server {
    monitoring_port: u16,
    process: u32,
}

impl Server {
    fn load(self) -> anyhow::Result<Load> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitoring_port))?;
        stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let varz: serde_json::Value = serde_json::from_str(body)?;
        let number = |name: &str| varz[name].as_u64().with_context(|| format!("no {name}"));
        // Such a connection was cut.
        ensure!(number("slow_consumers")? == 0, "an agent was too slow");
        let status = fs::read_to_string(format!("/proc/{}/status", self.process))?;
        let peak = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|it| it.split_whitespace().next());
        Ok(Load {
            processor_seconds: processor_seconds(&self.process.to_string())?,
            memory_bytes_max: peak.context("no VmHWM")?.parse::<u64>()? * 1024,
            in_messages: number("in_msgs")?,
            out_messages: number("out_msgs")?,
            in_bytes: number("in_bytes")?,
            out_bytes: number("out_bytes")?,
        })
    }
}

impl Load {
    fn since(self, before: &Self) -> Self {
        Self {
            processor_seconds: self.processor_seconds - before.processor_seconds,
            memory_bytes_max: self.memory_bytes_max,
            in_messages: self.in_messages - before.in_messages,
            out_messages: self.out_messages - before.out_messages,
            in_bytes: self.in_bytes - before.in_bytes,
            out_bytes: self.out_bytes - before.out_bytes,
        }
    }
}

/// The processor time of a process so far.
fn processor_seconds(process: &str) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // Of user and system, each in hundredths of a second on every Linux of today.
    let ticks = |index: usize| {
        fields
            .get(index)
            .context("no time")?
            .parse::<f64>()
            .context("no number")
    };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// Stands for a swap point: it accepts everything, at once, and is called a hundred times a second.
#[derive(Default)]
struct Stub {
    live: RefCell<Option<Live>>,
    generation: Cell<u64>,
    /// Since when calls are counted, in milliseconds since 1970.
    counted_since_ms: Cell<u64>,
    events: RefCell<VecDeque<String>>,
    is_filled: Notify,
}

impl Stub {
    fn say(&self, text: String) {
        self.events.borrow_mut().push_back(text);
        self.is_filled.notify_one();
    }
}

impl Target for Stub {
    async fn check(&self, _: &Path) -> Result<(), Nack> {
        Ok(())
    }

    async fn run(&self, path: &Path, sha256: &str, _: &StopSignal) -> Result<(), Nack> {
        self.go_back(path, sha256).await
    }

    async fn go_back(&self, path: &Path, sha256: &str) -> Result<(), Nack> {
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        self.counted_since_ms.set(now_ms());
        self.live.replace(Some(Live {
            sha256: Some(sha256.to_owned()),
            generation,
            since_ms: now_ms(),
        }));
        self.say(format!(
            "accepted generation {generation} {}",
            path.display()
        ));
        self.say(format!("unloaded generation {}", generation - 1));
        Ok(())
    }

    fn live(&self) -> Option<Live> {
        self.live.borrow().clone()
    }

    fn mapped(&self) -> Vec<Mapped> {
        Vec::new()
    }

    fn figures(&self) -> Vec<BuildFigures> {
        let live = self.live.borrow();
        let figures = live.as_ref().map(|live| BuildFigures {
            sha256: live.sha256.clone().unwrap_or_default(),
            calls: now_ms().saturating_sub(self.counted_since_ms.get()) / 10,
            faults: 0,
            p50_ns: 1_200,
            p99_ns: 4_700,
        });
        figures.into_iter().collect()
    }

    fn reset_figures(&self, _: &str) {
        self.counted_since_ms.set(now_ms());
    }

    async fn event(&self) -> Option<TargetEvent> {
        loop {
            let first = self.events.borrow_mut().pop_front();
            if let Some(text) = first {
                let event = serde_json::json!({ "event": text });
                return Some(TargetEvent {
                    text,
                    event,
                    went_back: None,
                });
            }
            self.is_filled.notified().await;
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |it| it.as_millis() as u64)
}
