//! Certificates on both sides.

use std::{fs, path::Path, process::Command};

use async_nats::ConnectOptions;
use hotswap_fleet::rollout::Phase;
use serde_json::json;
use tempfile::TempDir;

use crate::{fleet::Fleet, servers::Servers};

/// Runs `openssl` in a folder.
fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {text}");
}

/// An authority, and what it has certified: the server, a host and an operator.
fn certificates() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let it = folder.path();
    let new_key = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        it,
        &format!("{new_key} -x509 -days 2 -subj /CN=ca -keyout ca.key -out ca.pem"),
    );
    for name in ["server", "host", "operator"] {
        let extensions =
            "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n";
        fs::write(it.join("extensions"), extensions).expect("the folder can be written");
        openssl(
            it,
            &format!("{new_key} -subj /CN={name} -keyout {name}.key -out {name}.csr"),
        );
        openssl(
            it,
            &format!(
                "x509 -req -days 2 -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -out {name}.pem"
            ),
        );
    }
    folder
}

fn servers(folder: &Path) -> Servers {
    let file = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    );
    Servers::start(1, &text)
}

#[tokio::test]
async fn hosts_and_operators_with_certificates_are_let_in_and_others_are_not() {
    let (ours, theirs) = (certificates(), certificates());
    let (folder, foreign) = (ours.path(), theirs.path());
    let operator = ConnectOptions::new()
        .require_tls(true)
        .add_root_certificates(folder.join("ca.pem"))
        .add_client_certificate(folder.join("operator.pem"), folder.join("operator.key"));
    let mut fleet = Fleet::on(servers(folder), operator, 1).await;
    let first = fleet.key.build("good", 1);
    let initial = first.write_to(fleet.root.path());
    let more = json!({ "tls_folder": folder, "initial": initial });
    fleet.add_hosts(2, &more).await;
    // One that trusts another authority, and has a certificate of that; and one that has none at all.
    let more = json!({ "tls_folder": foreign, "initial": initial });
    fleet.add_host("foreign", &more).start();
    fleet
        .add_host("naked", &json!({ "initial": initial }))
        .start();
    fleet.all_run(1).await;
    let second = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(second, "check,100%").await;
    let view = fleet.run_until_ended(Phase::Done).await;
    let hosts: Vec<_> = view.hosts.iter().map(|it| &*it.status.host).collect();
    assert_eq!(hosts, ["host-0", "host-1"]);
    for host in &fleet.hosts[..2] {
        host.until_runs(2).await;
    }
    for host in &mut fleet.hosts[2..] {
        assert_eq!(host.runs().as_deref(), Some("1"));
        assert_eq!(host.end().await.faults, 0);
    }
}
