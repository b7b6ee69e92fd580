//! A host of a fleet: it runs what the roll-out says.
//!
//! ```sh
//! cargo run -p hotswap-fleet --example fleet_host -- web-1 /var/lib/app/fleet key.pub nats://localhost:4222
//! ```

use std::{
    env, fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use hotswap_core::{Settings, Trial, Trust};
use hotswap_fleet::agent::{Agent, AgentSettings};
use hotswap_types::Plugin;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

fn main() -> anyhow::Result<()> {
    // What crashes, hangs or answers wrongly does it in a child process first.
    let trial = Trial::<dyn Plugin>::at_top_of_main(|it| match it.some_fn(7).as_str() {
        "" => Err("no answer to 7".to_owned()),
        _ => Ok(()),
    });
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [host, folder, key, server] = &arguments[..] else {
        anyhow::bail!("usage: fleet_host NAME FOLDER PUBLIC_KEY_FILE SERVER");
    };
    let seconds =
        |name, or| env::var(name).map_or(Ok(or), |it| it.parse().map(Duration::from_secs));
    let settings = AgentSettings {
        heartbeat: seconds("HEARTBEAT", Duration::from_secs(10))?,
        good_after: seconds("GOOD_AFTER", Duration::from_secs(30))?,
        initial: env::var_os("INITIAL").map(PathBuf::from),
        ..AgentSettings::new("plugin", host, folder, fs::read_to_string(key)?.parse()?)
    };
    // SAFETY: only files that our key has signed are loaded, and we sign only what we have built.
    let trust = unsafe { Trust::vouch(settings.policy()) };
    let mut options = async_nats::ConnectOptions::new();
    if let Ok(file) = env::var("NATS_CA") {
        options = options.add_root_certificates(file.into()).require_tls(true);
    }
    if let Ok(password) = env::var("NATS_PASSWORD") {
        options = options.user_and_password(host.clone(), password);
    }
    let probation = Some(settings.good_after);
    let agent = Agent::start(settings, server, options, &trust, move || Settings {
        trial: Some(trial),
        probation,
        ..Settings::default()
    })?;

    let is_ending = Arc::<AtomicBool>::default();
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&is_ending))?;
    }
    for number in 0.. {
        if is_ending.load(Ordering::Relaxed) {
            break;
        }
        match agent.call(|it| it.some_fn(number)) {
            Ok(answer) if number % 100 == 0 => println!("{answer}"),
            Ok(_) => {}
            Err(fault) => println!("fault: {fault}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
    agent.stop();
    Ok(())
}
