//! The program `hotswap-fleet`, for operators.

mod show;

use std::{
    env,
    fmt::Display,
    fs,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::{ConnectOptions, ServerAddr};
use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use hotswap_core::PublicKey;
use hotswap_fleet::{
    Manifest,
    controller::{Controller, View},
    rollout::{Phase, Release, Ring, RolloutLimits, RolloutRecord},
    store::Store,
};

use self::show::Screen;

/// Rolls hotswap plugins out to many machines over NATS JetStream.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

/// How long the server may not answer while a plugin is fetched.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
const EXIT_CODES: &str = "\
Exit codes:
  0  It went well; of `status`: nothing has gone wrong so far
  1  Something has failed
  2  Wrong usage
  3  The roll-out was halted
  4  The roll-out has ended, and some hosts have refused the build";

/// How to connect to NATS.
#[derive(Args)]
#[command(next_help_heading = "Connection")]
struct Connection {
    /// The servers, divided by commas
    #[arg(
        long,
        global = true,
        env = "NATS_URL",
        default_value = "nats://localhost:4222"
    )]
    server: String,
    /// Credentials (JWT and NKey), as `nsc` makes them
    #[arg(long, global = true, env = "NATS_CREDS", value_name = "FILE")]
    creds: Option<PathBuf>,
    /// A user, with the password in NATS_PASSWORD of the environment
    #[arg(long, global = true, env = "NATS_USER")]
    user: Option<String>,
    /// The authorities that the server's certificate may come from (PEM)
    #[arg(long, global = true, env = "NATS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The certificate of this side (PEM)
    #[arg(
        long,
        global = true,
        env = "NATS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(
        long,
        global = true,
        env = "NATS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Make the streams and buckets that are not there yet
    Init {
        /// How many servers of a cluster keep them
        #[arg(long, default_value_t = 1)]
        replicas: usize,
    },
    /// Print what a host may do, for the configuration of nats-server
    Permissions {
        /// The plugin's name
        #[arg(long)]
        plugin: String,
        /// The hosts' names
        #[arg(long, required = true, num_args = 1..)]
        host: Vec<String>,
    },
    /// Store a signed plugin, and print its SHA-256
    Publish {
        /// The plugin; its signature is FILE.minisig
        file: PathBuf,
        /// The key that it must be signed with, as a line or a file
        #[arg(long, value_name = "KEY")]
        public_key: String,
    },
    /// Print all stored plugins: SHA-256, size, when it was published, trusted comment, and who uses it
    Builds,
    /// Delete stored plugins that no roll-out has as the build to run or as the one before
    Delete {
        /// The SHA-256 of each build
        #[arg(required = true)]
        sha256: Vec<String>,
    },
    /// Roll a stored plugin out, and carry that on until it has ended
    Rollout {
        /// The plugin's name
        plugin: String,
        /// The SHA-256 of the build, as `publish` has printed it
        sha256: String,
        /// The key that it must be signed with, as a line or a file
        #[arg(long, value_name = "KEY")]
        public_key: String,
        /// Which hosts get it one after the other
        ///
        /// check     all hosts fetch it and check it, and none runs it
        /// canary=1  so many hosts run it
        /// 10%       so many of the hosts run it, and at least one more than before
        /// 100%      all hosts run it, also those that come later; the last ring
        #[arg(
            verbatim_doc_comment,
            long,
            value_delimiter = ',',
            value_name = "RING,…",
            default_value = "check,canary=1,1%,10%,100%"
        )]
        rings: Vec<Ring>,
        /// How long the hosts of each ring run it before the next ring
        #[arg(long, default_value = "5m", value_parser = humantime::parse_duration, value_name = "TIME")]
        soak: Duration,
        /// How long a host may take to answer
        #[arg(long, default_value = "10m", value_parser = humantime::parse_duration, value_name = "TIME")]
        answer_timeout: Duration,
        /// How many hosts may refuse it, go back, or be lost
        #[arg(long, default_value_t = 0, value_name = "HOSTS")]
        max_failed: u32,
        /// How far its share of faults may be above that of other builds
        #[arg(long, default_value = "1%", value_parser = percent, value_name = "PERCENT")]
        max_faults: f64,
        /// Only begin it; `control` elsewhere carries it on
        #[arg(long)]
        detach: bool,
    },
    /// Carry on what is under way, and what comes (may run on several machines)
    Control {
        /// The plugin's name
        plugin: String,
        /// End when the roll-out has ended
        #[arg(long)]
        once: bool,
    },
    /// Print how far the roll-out is, and each host
    Status {
        /// The plugin's name
        plugin: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show the roll-out until it has ended; on a terminal, also until hosts have gone back
    Watch {
        /// The plugin's name
        plugin: String,
    },
    /// Take the roll-out that is under way back: all hosts go back to the build before
    Halt {
        /// The plugin's name
        plugin: String,
        /// Why, for the record
        #[arg(long, default_value = "no reason given")]
        why: String,
    },
    /// Go on with a halted roll-out, in the ring in which it was halted
    Resume {
        /// The plugin's name
        plugin: String,
    },
    /// Roll the build before out to all hosts at once
    Revert {
        /// The plugin's name
        plugin: String,
    },
    /// Print all changes of the roll-out and all events of the hosts, in the order of time
    Audit {
        /// The plugin's name
        plugin: String,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // The part of the usage that no option can say by itself.
    if let Command::Rollout { rings, .. } = &cli.command
        && let Err(error) = Ring::check_all(rings)
    {
        Cli::command()
            .error(ErrorKind::ValueValidation, error)
            .exit();
    }
    match run(cli).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hotswap-fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    if let Command::Permissions { plugin, host } = &cli.command {
        for host in host {
            print!("{}", show::permissions(plugin, host)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let store = cli.connection.connect().await?;
    let controller = |plugin: &str| Controller::new(store.clone(), plugin, &who());
    match cli.command {
        Command::Permissions { .. } => {}
        Command::Init { replicas } => store.init(replicas).await?,
        Command::Publish { file, public_key } => {
            let (sha256, manifest) = publish(&store, &file, &public_key).await?;
            eprintln!("{}", show::manifest(&manifest));
            println!("{sha256}");
        }
        Command::Builds => print!("{}", show::builds(&store.builds().await?)),
        Command::Delete { sha256 } => {
            for sha256 in &sha256 {
                store.delete(sha256).await?;
            }
        }
        Command::Rollout {
            plugin,
            sha256,
            public_key,
            rings,
            soak,
            answer_timeout,
            max_failed,
            max_faults,
            detach,
        } => {
            let target = release(&store, &plugin, &sha256, &public_key).await?;
            let limits = RolloutLimits {
                soak_ms: soak.as_millis() as u64,
                answer_timeout_ms: answer_timeout.as_millis() as u64,
                failed_hosts_max: Some(max_failed),
                fault_ratio_excess_max: Some(max_faults),
            };
            let controller = controller(&plugin)?;
            let begun = controller.begin(target, rings, limits).await?;
            println!("{}", show::change(&begun));
            if !detach {
                return follow(&controller, Some(&begun), true).await;
            }
        }
        Command::Control { plugin, once } => {
            let controller = controller(&plugin)?;
            // What is wrong from the beginning is not waited for.
            controller.look().await?;
            let mut shown = 0;
            let look = |view: &View| {
                show_change(view, &mut shown);
                once && view.rollout.has_ended()
            };
            controller.run(true, look).await?;
        }
        Command::Status { plugin, json } => {
            let view = controller(&plugin)?.look().await?;
            if json {
                println!("{}", show::json(&view));
            } else {
                let rows = None;
                print!("{}", show::view(&view, Screen { rows, ..screen() }));
            }
            return Ok(exit_code(&view.rollout));
        }
        Command::Watch { plugin } => return watch(&controller(&plugin)?).await,
        Command::Halt { plugin, why } => {
            println!("{}", show::change(&controller(&plugin)?.halt(&why).await?));
        }
        Command::Resume { plugin } => {
            let controller = controller(&plugin)?;
            let resumed = controller.resume().await?;
            println!("{}", show::change(&resumed));
            return follow(&controller, Some(&resumed), true).await;
        }
        Command::Revert { plugin } => {
            let controller = controller(&plugin)?;
            let reverting = controller.revert().await?;
            println!("{}", show::change(&reverting));
            return follow(&controller, Some(&reverting), true).await;
        }
        Command::Audit { plugin } => {
            let (changes, log) = (store.changes(&plugin).await?, store.log(&plugin).await?);
            let is_unknown = changes.is_empty() && log.is_empty();
            ensure!(!is_unknown, "nothing has happened to `{plugin}`");
            print!("{}", show::audit(&changes, &log));
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Connection {
    async fn connect(&self) -> Result<Store> {
        let mut options = ConnectOptions::new().name("hotswap-fleet");
        if let Some(file) = &self.creds {
            let with_creds = options.credentials_file(file).await;
            options = with_creds.with_context(|| format!("cannot read {}", file.display()))?;
        }
        if let Some(user) = &self.user {
            let password = env::var("NATS_PASSWORD");
            let password = password.context("--user needs the password in NATS_PASSWORD")?;
            options = options.user_and_password(user.clone(), password);
        }
        for file in [&self.tls_ca, &self.tls_cert, &self.tls_key]
            .into_iter()
            .flatten()
        {
            fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
        }
        if let Some(file) = &self.tls_ca {
            options = options
                .add_root_certificates(file.clone())
                .require_tls(true);
        }
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        let servers: Vec<ServerAddr> = self
            .server
            .split(',')
            .map(|it| it.trim().parse())
            .collect::<Result<_, _>>()
            .with_context(|| format!("{:?} are no addresses of servers", self.server))?;
        let options = options
            .max_reconnects(None)
            .event_callback(|event| async move { say(&event) });
        // Its text has that of its cause.
        let client = options
            .connect(servers)
            .await
            .map_err(|error| anyhow::anyhow!("cannot connect to {}: {error}", self.server))?;
        Ok(Store::new(client))
    }
}

/// Says why nothing comes, and what the server does not allow.
fn say(event: &async_nats::Event) {
    match event {
        async_nats::Event::Disconnected => {
            eprintln!("hotswap-fleet: the server is away, waiting for it");
        }
        async_nats::Event::ServerError(error) => {
            eprintln!("hotswap-fleet: the server says: {error}")
        }
        _ => {}
    }
}

/// Checks that a file is signed, and stores it.
async fn publish(store: &Store, file: &Path, public_key: &str) -> Result<(String, Manifest)> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let beside = file.with_added_extension("minisig");
    let signature = fs::read_to_string(&beside).with_context(|| {
        let hint = "sign it: minisign -Sm FILE -t 'name=NAME serial=1'";
        format!("cannot read {} ({hint})", beside.display())
    })?;
    let manifest = Manifest::verified(&key(public_key)?, &bytes, &signature)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("{} with {}", file.display(), beside.display()))?;
    ensure_current(&manifest, file.display())?;
    Ok((store.publish(&bytes, &signature).await?, manifest))
}

/// A build that is stored, is of this plugin and is signed.
async fn release(store: &Store, plugin: &str, sha256: &str, public_key: &str) -> Result<Release> {
    let fetched = store.fetch(sha256, 1 << 30, FETCH_TIMEOUT).await?;
    let manifest = Manifest::verified(&key(public_key)?, &fetched.bytes, &fetched.signature)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("{sha256} is not signed with this key"))?;
    ensure!(
        manifest.name == plugin,
        "{sha256} is a build of `{}`, not of `{plugin}`",
        manifest.name
    );
    ensure_current(&manifest, sha256)?;
    Ok(Release {
        sha256: sha256.to_owned(),
        serial: manifest.serial,
    })
}

/// Fails if hosts would refuse the build for its age.
fn ensure_current(manifest: &Manifest, build: impl Display) -> Result<()> {
    let is_over = manifest.expires.is_some_and(|it| it <= SystemTime::now());
    ensure!(!is_over, "{build} has expired: sign and publish it again");
    Ok(())
}

fn key(text: &str) -> Result<PublicKey> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let file = fs::read_to_string(text).with_context(|| format!("cannot read the key {text}"))?;
    file.parse().with_context(|| format!("{text} has no key"))
}

/// Prints the changes until the roll-out has ended.
async fn follow(
    controller: &Controller,
    begun: Option<&RolloutRecord>,
    acts: bool,
) -> Result<ExitCode> {
    let mut shown = begun.map_or(0, |it| it.change);
    let mut code = ExitCode::FAILURE;
    let look = |view: &View| {
        show_change(view, &mut shown);
        code = exit_code(&view.rollout);
        view.rollout.has_ended()
    };
    controller.run(acts, look).await?;
    Ok(code)
}

/// Draws the whole picture anew, or prints the changes where there is no terminal.
async fn watch(controller: &Controller) -> Result<ExitCode> {
    // What is wrong from the beginning is not waited for.
    controller.look().await?;
    if !std::io::stdout().is_terminal() {
        return follow(controller, None, false).await;
    }
    let mut code = ExitCode::FAILURE;
    let look = |view: &View| {
        // To the top, and what is left of the picture before is cleared, line by line, so that nothing flickers. At the
        // end, all of it is left to be read, also what has not found room. Halted, hosts have still to go back.
        let is_going_back = view.rollout.phase == Phase::Halted && view.summary.running > 0;
        let has_ended =
            view.rollout.has_ended() && (!is_going_back || view.rollout.previous.is_none());
        let screen = screen();
        let picture = show::view(
            view,
            Screen {
                rows: screen.rows.filter(|_| !has_ended),
                ..screen
            },
        );
        print!("\x1b[H{}\x1b[J", picture.replace('\n', "\x1b[K\n"));
        let _ = std::io::stdout().flush();
        code = exit_code(&view.rollout);
        has_ended
    };
    // What the terminal shows goes up, and is not overwritten.
    print!("{}\x1b[2J", "\n".repeat(screen().rows.unwrap_or(0)));
    controller.run(false, look).await?;
    Ok(code)
}

/// The size of the terminal, if there is one.
fn screen() -> Screen {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let size = size.filter(|it| it.ws_col > 0 && it.ws_row > 0);
    Screen {
        columns: size.map(|it| it.ws_col.into()),
        rows: size.map(|it| it.ws_row.into()),
    }
}

fn show_change(view: &View, shown: &mut u64) {
    if view.rollout.change != *shown {
        *shown = view.rollout.change;
        println!("{}", show::change(&view.rollout));
    }
}

/// 0 while it goes well, 3 if it was taken back, 4 if some hosts have refused it.
fn exit_code(rollout: &RolloutRecord) -> ExitCode {
    match rollout.phase {
        Phase::Halted => ExitCode::from(3),
        Phase::Incomplete => ExitCode::from(4),
        _ => ExitCode::SUCCESS,
    }
}

fn percent(text: &str) -> Result<f64> {
    let Some(number) = text.strip_suffix('%') else {
        bail!("a share has a `%` at its end");
    };
    let share: f64 = number.parse().context("not a number")?;
    ensure!((0.0..=100.0).contains(&share), "a share is from 0% to 100%");
    Ok(share / 100.0)
}

/// Who makes a change: the user and the machine.
fn who() -> String {
    let user =
        env::var("USER").unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw()));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user}@{}", host.trim())
}
