//! A websocket server whose processing is replaced while its connections stay open.
//!
//! ```sh
//! cargo build && cargo run -p hotswap-demo --example ws_server -- target/debug/libplugin.so
//! ```
//!
//! Each text message to `/ws` is answered by the plugin's `answer`, which may take its time: the example `ws_plugin` is
//! a plugin that sleeps and asks another server. A message that begins with `:` is for the server: `:reload` loads the
//! plugin's file again, and its answer says which generation is live, or why the file was refused; `:rollback` puts the
//! previous plugin back. `:canary 10%` lets the plugin's file answer a tenth of the connections beside the live plugin,
//! and `:share 50%` half of them, until `:promote` makes it live or `:abandon` gives it up; `:rollout` leaves that to a
//! rule. `/` is a page that does all this, and shows the swaps and both sides of a canary. The example `ws_client` is a
//! prompt for it. With `--watch`, each new file at the plugin's path is swapped in; with `--dev` in place of a path,
//! the server builds the plugin whenever it is saved.
//!
//! No swap closes a connection: a connection belongs to the host, and so does all that must outlive a swap, such as
//! the count of messages. For a message, its task chooses a generation, calls it, and keeps that choice until the
//! answer is sent: whatever happens in between, the generation that the answer names is still there.
//!
//! Safe by default: it listens on loopback only, other sites' pages are refused, and what one client can take is
//! bounded. The modules say how: `http` who may come in, `site` from which sites, `address` how much one address may
//! have, `connection` what one may do, `command` what it may ask the server itself, `service` what there is for all,
//! `canary` what there is of a candidate on live messages.
//!
//! `/metrics` has the library's figures for Prometheus, `ws_server/dashboard.json` is a dashboard of them for Grafana.
//! With `--log info`, what plugins log is written with the generation that said it.
//!
//! stdout carries the address; stderr carries what the host says, one event a line.

#[path = "ws_server/address.rs"]
mod address;
#[path = "ws_server/building.rs"]
mod building;
#[path = "../src/builds.rs"]
mod builds;
#[path = "ws_server/canary.rs"]
mod canary;
#[path = "ws_server/command.rs"]
mod command;
#[path = "../src/commands.rs"]
mod commands;
#[path = "ws_server/connection.rs"]
mod connection;
#[path = "ws_server/guide.rs"]
mod guide;
#[path = "ws_server/http.rs"]
mod http;
#[path = "ws_server/log.rs"]
mod log;
#[path = "ws_server/metrics.rs"]
mod metrics;
#[path = "../src/probe.rs"]
mod probe;
#[path = "ws_server/service.rs"]
mod service;
#[path = "ws_server/signals.rs"]
mod signals;
#[path = "ws_server/site.rs"]
mod site;
#[path = "../src/trust.rs"]
mod trust;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, value_parser};
use hotswap_core::{
    Candidate, Event, Hotswap, Limits, Settings, Trial, Trust, watch::WatchSettings,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{net::TcpListener, runtime};
use tracing_subscriber::filter::Targets;

use crate::{
    building::Builds,
    builds::DevOptions,
    guide::Swaps,
    http::{Door, HTTP_ONLY_MAX},
    service::Service,
    signals::Stop,
    trust::TrustOptions,
};

/// Answers websocket messages by a plugin that the message `:reload` replaces.
#[derive(Parser)]
#[command(name = "ws_server", args_override_self = true)]
struct Options {
    /// The plugin to begin with
    #[arg(required_unless_present = "dev", conflicts_with = "dev")]
    plugin: Option<PathBuf>,

    #[command(flatten)]
    dev: DevOptions,

    /// Swap whenever the file at the last accepted path has changed
    #[arg(long)]
    watch: bool,

    /// Where to listen; port 0 is any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9160")]
    listen: SocketAddr,

    /// Listen on an address that other machines can reach; there is no encryption, and no password
    #[arg(long)]
    allow_remote: bool,

    /// Let whoever can reach such an address reload the plugin, and begin and end canaries, too
    #[arg(long)]
    allow_remote_reload: bool,

    /// A name that browsers may know this server by, beside `localhost` and addresses (may be given several times)
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,

    /// How many websockets may be open at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 4096, value_parser = value_parser!(u32).range(1..=1_000_000))]
    connections: u32,

    /// How many of them one address may have; an IPv6 network of 64 bits counts as one address. Unless given, half of
    /// them, and all of them for a loopback address, which all clients on this machine have. Behind a proxy on another
    /// machine, from which all come, give as many as there may be
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u32).range(1..=1_000_000))]
    connections_per_address: Option<u32>,

    /// How long a client may take to read an answer, or to show that it is there, before it is disconnected; and how
    /// long the plugin may take for an answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = patience)]
    patience: Duration,

    /// The plugin's configuration; what it means is between you and the plugin
    #[arg(long, value_name = "TEXT", default_value = "")]
    config: String,

    /// Write what plugins log, too, as JSON: all of a level (`info`), or of a target (`ws_plugin=debug`), or several of
    /// these with commas between them
    #[arg(long, value_name = "FILTER")]
    log: Option<Targets>,

    /// Load each plugin in a child process first, and ask it something there
    #[arg(long)]
    trial: bool,

    #[command(flatten)]
    trust: TrustOptions,
}

/// At the end, how long to wait for connections to close, and then for the plugin to leave.
const END_DEADLINE: Duration = Duration::from_secs(5);

fn main() -> Result<ExitCode> {
    // Before there are any threads.
    let trial = Trial::at_top_of_main(probe::probe);
    let options = Options::parse();
    if let Some(filter) = options.log.clone() {
        log::install(filter)?;
    }
    // Before a plugin is loaded, so that it is counted.
    let metrics = metrics::install()?;
    let is_local = options.listen.ip().is_loopback();
    ensure!(
        is_local || options.allow_remote,
        "{} can be reached from other machines; --allow-remote allows it",
        options.listen
    );
    allow_files_for(options.connections)?;
    // SAFETY: whoever runs the server vouches for the plugin, and for what is put in its place. What a call gives is
    // turned into the host's own values there.
    let trust = unsafe { Trust::vouch(options.trust.policy()) };
    let settings = || Settings {
        // For the page.
        record_sha256: true,
        name: Some("ws_server".to_owned()),
        trial: options.trial.then_some(trial),
        limits: Limits {
            ended_max: service::HISTORY_MAX,
            refused_max: service::HISTORY_MAX,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let load = |path: &Path| {
        let first = Candidate::new(path).with_config(&*options.config);
        Hotswap::load_with(first, &trust, settings())
    };

    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let stop = runtime.block_on(async { signals::handle() });
    let stop = stop.context("signals cannot be handled")?;
    let dev = options.dev.start()?;
    let mut builds = dev.map(Builds::of).transpose()?;
    let first = match (&mut builds, &options.plugin) {
        (Some(builds), _) => runtime.block_on(builds.first(stop.clone(), load)),
        (None, path) => match load(path.as_deref().expect("required unless it is built")) {
            Ok(plugin) => Some(plugin),
            Err(error) => {
                eprintln!("{}", trust::with_option(Event::from(&error)));
                return Ok(ExitCode::FAILURE);
            }
        },
    };
    let Some(plugin) = first else {
        return Ok(ExitCode::SUCCESS);
    };
    let plugin = Arc::new(plugin);
    let watch = options
        .watch
        .then(|| plugin.watch(WatchSettings::default()));
    let swaps = match (&builds, &watch) {
        (Some(_), _) => Swaps::Dev,
        (None, Some(_)) => Swaps::Watch,
        (None, None) => Swaps::Reload,
    };
    let may_reload = is_local || options.allow_remote_reload;
    let service = Service::new(plugin, watch.transpose()?, swaps, may_reload, metrics);
    let service = Arc::new(service);
    runtime.block_on(serve(options, stop, builds, Arc::clone(&service)))?;
    runtime.shutdown_timeout(END_DEADLINE);

    let Some(service) = Arc::into_inner(service) else {
        eprintln!("a call into the plugin has not ended");
        return Ok(ExitCode::FAILURE);
    };
    service.end(END_DEADLINE);
    Ok(ExitCode::SUCCESS)
}

/// Serves until a signal asks for an end, and then until all connections are closed.
async fn serve(
    options: Options,
    stop: Stop,
    builds: Option<Builds>,
    service: Arc<Service>,
) -> Result<()> {
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", options.listen))?;
    let door = Arc::new(Door::new(
        options.host,
        options.connections,
        options.connections_per_address,
        options.patience,
        stop,
    ));
    let address = listener.local_addr()?;
    writeln!(io::stdout(), "listening on http://{address}/")
        .context("standard output cannot be written")?;

    let ticks = tokio::spawn(Arc::clone(&service).tick_for_ever());
    let building = builds.map(|it| tokio::spawn(Arc::clone(&service).take_builds(it)));
    http::accept(listener, &door, &service).await;
    // Nothing new comes in, and a build that is running ends.
    building.inspect(|it| it.abort());
    if !door.all_have_left(END_DEADLINE).await {
        eprintln!("some connections have not closed, and are cut off");
    }
    ticks.abort();
    Ok(())
}

const PATIENCE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

fn patience(text: &str) -> Result<Duration> {
    let patience = humantime::parse_duration(text)?;
    ensure!(!patience.is_zero(), "clients need some time");
    // Far from where clocks overflow.
    ensure!(patience <= PATIENCE_MAX, "a day is the most");
    Ok(patience)
}

/// Each connection is an open file, of which shells allow 1,024 unless asked for more.
fn allow_files_for(connections: u32) -> Result<()> {
    /// The plugins', the runtime's, and the standard ones.
    const OTHERS: u64 = 128;
    let needed = u64::from(connections) + HTTP_ONLY_MAX as u64 + OTHERS;
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    let (current, maximum) = limits.context("the limit on open files is not known")?;
    // No limit is the largest number.
    if current < needed {
        ensure!(
            needed <= maximum,
            "{connections} connections need {needed} open files, and {maximum} are allowed"
        );
        let raised = setrlimit(Resource::RLIMIT_NOFILE, needed, maximum);
        raised.context("no more open files are allowed")?;
    }
    Ok(())
}
