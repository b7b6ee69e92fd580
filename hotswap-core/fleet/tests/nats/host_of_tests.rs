//! A host process, as the tests need it: it is told all in one line of JSON, calls the plugin without a break, and ends
//! in an orderly way when its standard input does.

use std::{
    env, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use hotswap_core::{
    Settings, Trial, Trust,
    canary::{Rule, Share, Step},
};
use hotswap_fleet::agent::{Agent, AgentSettings};
use hotswap_types::Plugin;
use serde::Deserialize;

/// What it is told.
#[derive(Deserialize)]
struct Told {
    plugin: String,
    host: String,
    folder: PathBuf,
    public_key: String,
    server: String,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    tls_folder: Option<PathBuf>,
    #[serde(default)]
    initial: Option<PathBuf>,
    #[serde(default)]
    interface: Option<String>,
    #[serde(default)]
    has_trial: bool,
    #[serde(default)]
    has_probation: bool,
    /// How many calls a build needs as a canary, if there is one.
    #[serde(default)]
    canary_calls: Option<u64>,
    heartbeat_ms: u64,
    good_after_ms: u64,
    start_timeout_ms: u64,
}

static IS_ENDING: AtomicBool = AtomicBool::new(false);

fn main() -> anyhow::Result<()> {
    let trial = Trial::<dyn Plugin>::at_top_of_main(|it| match it.some_fn(7).as_str() {
        "" => Err("no answer to 7".to_owned()),
        _ => Ok(()),
    });
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_target(false)
        .init();
    let told = env::args().nth(1).context("no arguments")?;
    let told: Told = serde_json::from_str(&told)?;
    let ms = Duration::from_millis;
    let settings = AgentSettings {
        heartbeat: ms(told.heartbeat_ms),
        good_after: ms(told.good_after_ms),
        start_timeout: ms(told.start_timeout_ms),
        initial: told.initial,
        interface: told.interface,
        canary: told.canary_calls.map(|calls_min| Rule {
            steps: vec![Step {
                share: Share::percent(50),
                soak: Duration::ZERO,
            }],
            calls_min,
            // The machine may be busy.
            latency_ratio_max: f64::INFINITY,
            ..Rule::default()
        }),
        ..AgentSettings::new(
            told.plugin,
            &told.host,
            told.folder,
            told.public_key.parse()?,
        )
    };
    // SAFETY: the tests have built what they sign.
    let trust = unsafe { Trust::vouch(settings.policy()) };
    let mut options = async_nats::ConnectOptions::new();
    if let Some(password) = told.password {
        options = options.user_and_password(told.host, password);
    }
    if let Some(folder) = told.tls_folder {
        options = options
            .require_tls(true)
            .add_root_certificates(folder.join("ca.pem"))
            .add_client_certificate(folder.join("host.pem"), folder.join("host.key"));
    }
    let probation = told.has_probation.then(|| Duration::from_secs(3600));
    let agent = Agent::start(settings, &told.server, options, &trust, move || Settings {
        trial: told.has_trial.then_some(trial),
        probation,
        ..Settings::default()
    })?;
    let plugin = Arc::clone(agent.plugin());
    thread::spawn(move || {
        // Each line is a fault that the host has found by itself.
        for line in io::stdin().lines().map_while(Result::ok) {
            plugin.report_fault(plugin.choose_at_random().generation(), &line);
        }
        IS_ENDING.store(true, Ordering::Relaxed);
    });
    let (mut calls, mut faults, mut shown) = (0_u64, 0_u64, String::new());
    // Above 7, which is for trials.
    for number in 100.. {
        if IS_ENDING.load(Ordering::Relaxed) {
            break;
        }
        // What it is does not count as a call.
        let is = agent.plugin().call(|it| it.some_data());
        match is {
            Ok(is) if is != shown => {
                println!("runs {is}");
                shown = is;
            }
            Ok(_) => {}
            Err(fault) => println!("has no name: {fault}"),
        }
        calls += 1;
        faults += u64::from(agent.call(|it| it.some_fn(number)).is_err());
        thread::sleep(Duration::from_millis(10));
    }
    agent.stop();
    println!("ended after {calls} calls, {faults} faults");
    Ok(())
}
