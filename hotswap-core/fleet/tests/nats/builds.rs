//! Builds of a plugin, and keys that sign them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use hotswap_core::{PublicKey, Sha256};
use hotswap_fleet::rollout::Release;
use minisign::KeyPair;

/// The name of the plugin, as manifests have it.
pub(crate) const PLUGIN: &str = "rules";

/// Signs builds.
pub(crate) struct Key(KeyPair);

/// A build and its signature.
#[derive(Clone)]
pub(crate) struct Build {
    pub(crate) bytes: Vec<u8>,
    pub(crate) signature: String,
    pub(crate) serial: u64,
}

impl Key {
    pub(crate) fn new() -> Self {
        Self(KeyPair::generate_unencrypted_keypair().expect("random numbers"))
    }

    pub(crate) fn public(&self) -> PublicKey {
        let text = self.0.pk.to_base64();
        text.parse().expect("both speak of the same keys")
    }

    /// A build that does what `word` says, which the fixture knows.
    pub(crate) fn build(&self, word: &str, serial: u64) -> Build {
        self.build_with(word, serial, "")
    }

    /// The same with more words in its manifest.
    pub(crate) fn build_with(&self, word: &str, serial: u64, more: &str) -> Build {
        let bytes = fixture_that(word, serial);
        self.sign(
            bytes,
            serial,
            &format!("name={PLUGIN} serial={serial} {more}"),
        )
    }

    pub(crate) fn sign(&self, bytes: Vec<u8>, serial: u64, comment: &str) -> Build {
        let KeyPair { pk, sk } = &self.0;
        let signature = minisign::sign(Some(pk), sk, &*bytes, Some(comment), None);
        Build {
            bytes,
            signature: signature.expect("nothing of it can fail").into_string(),
            serial,
        }
    }
}

impl Build {
    pub(crate) fn sha256(&self) -> String {
        Sha256::of(&self.bytes).to_string()
    }

    pub(crate) fn release(&self) -> Release {
        Release {
            sha256: self.sha256(),
            serial: self.serial,
        }
    }

    /// Writes it and its signature to a folder.
    pub(crate) fn write_to(&self, folder: &Path) -> PathBuf {
        let path = folder.join(format!("build-{}.so", self.serial));
        fs::write(&path, &self.bytes).expect("the folder can be written");
        let signature = path.with_extension("so.minisig");
        fs::write(signature, &self.signature).expect("the folder can be written");
        path
    }
}

/// The file of a fixture.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = examples().join(format!("lib{name}.so"));
    fs::read(path).expect("just built")
}

/// The program that is a host.
pub(crate) fn host_program() -> PathBuf {
    examples().join("host_of_tests")
}

/// What the fixture does when it is told this word in its file.
fn fixture_that(word: &str, serial: u64) -> Vec<u8> {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| fixture("of_a_fleet"));
    const MARK: &[u8] = b"hotswap fleet fixture: ";
    let mut bytes = BYTES.clone();
    let found = bytes.windows(MARK.len()).position(|it| it == MARK);
    let text = found.expect("it has a mark") + MARK.len();
    let field = &mut bytes[text..text + 64 - MARK.len()];
    let value = format!("{word} {serial}");
    field.fill(b' ');
    field[..value.len()].copy_from_slice(value.as_bytes());
    bytes
}

/// The folder with fixtures and the host, built once.
fn examples() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("cargo makes it `target/tmp`");
        for arguments in [
            &["hotswap-demo-fixtures", "--example", "of_a_fleet"][..],
            &["hotswap-demo-fixtures", "--example", "of_another_interface"],
            &[
                "hotswap-fleet",
                "--features",
                "nats-tests",
                "--example",
                "host_of_tests",
            ],
        ] {
            let mut cargo = Command::new(env!("CARGO"));
            cargo
                .args(["build", "--quiet", "--package"])
                .args(arguments)
                .arg("--target-dir")
                .arg(target)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .env_remove("CARGO_BUILD_TARGET");
            // What cargo tells a test of its package. A build script of `ring` would run again because of it, and all
            // that depends on it would be built anew, here and by the next command.
            for (name, _) in env::vars_os() {
                let is_of_package =
                    |it: &str| it.starts_with("CARGO_PKG_") || it == "CARGO_MANIFEST_DIR";
                if name.to_str().is_some_and(is_of_package) {
                    cargo.env_remove(name);
                }
            }
            let status = cargo.status().expect("cargo runs");
            assert!(status.success(), "{arguments:?} does not build");
        }
        let folder = target.join("debug/examples");
        folder.canonicalize().expect("just built")
    });
    &FOLDER
}
