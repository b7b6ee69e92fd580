//! nats-server: one, or a cluster.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// Servers in a folder of their own. They are killed when it is dropped.
pub(crate) struct Servers {
    _folder: TempDir,
    servers: Vec<Server>,
}

struct Server {
    port: u16,
    config: PathBuf,
    process: Option<Child>,
}

impl Servers {
    /// One server, without users.
    pub(crate) fn one() -> Self {
        Self::start(1, "")
    }

    /// So many servers; `more` is what else is in their configuration.
    pub(crate) fn start(count: usize, more: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let routes: Vec<_> = ports
            .iter()
            .map(|(_, it)| format!("\"nats-route://127.0.0.1:{it}\""))
            .collect();
        let server = |(index, (port, cluster_port)): (usize, &(u16, u16))| {
            let store = folder.path().join(format!("store-{index}"));
            let cluster = if count == 1 {
                String::new()
            } else {
                let routes = routes.join(", ");
                format!(
                    "cluster {{ name: fleet, listen: \"127.0.0.1:{cluster_port}\", routes: [{routes}] }}\n"
                )
            };
            let text = format!(
                "server_name: n{index}\nlisten: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?} }}\n{cluster}{more}"
            );
            let config = folder.path().join(format!("n{index}.conf"));
            fs::write(&config, text).expect("the folder can be written");
            Server {
                port: *port,
                config,
                process: None,
            }
        };
        let servers = ports.iter().enumerate().map(server).collect();
        let mut it = Self {
            _folder: folder,
            servers,
        };
        it.start_all();
        it
    }

    /// What hosts connect to.
    pub(crate) fn url(&self) -> String {
        let urls: Vec<_> = self
            .servers
            .iter()
            .map(|it| format!("nats://127.0.0.1:{}", it.port))
            .collect();
        urls.join(",")
    }

    /// Kills one of them.
    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.servers[index].process.take() {
            process.kill().expect("it is ours");
            process.wait().expect("it is ours");
        }
    }

    /// Kills all of them.
    pub(crate) fn kill_all(&mut self) {
        for index in 0..self.servers.len() {
            self.kill(index);
        }
    }

    /// Starts those that do not run.
    pub(crate) fn start_all(&mut self) {
        for server in &mut self.servers {
            if server.process.is_none() {
                let log = server.config.with_extension("log");
                let process = Command::new(program())
                    .arg("--config")
                    .arg(&server.config)
                    .arg("--log")
                    .arg(log)
                    .stdin(Stdio::null())
                    .spawn();
                let hint = "nats-server cannot be run: scripts/nats installs it";
                server.process = Some(process.expect(hint));
            }
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.kill_all();
    }
}

fn program() -> PathBuf {
    if let Some(path) = env::var_os("HOTSWAP_NATS_SERVER") {
        return path.into();
    }
    let debian = Path::new("/usr/sbin/nats-server");
    if debian.exists() {
        debian.to_owned()
    } else {
        "nats-server".into()
    }
}

/// A port that nothing listens on. Not one of those that the system gives to connections: a server that is started
/// again must find its own free.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
