//! Where the measured plugins are, and where the results go.

use std::{env, fs, path::PathBuf};

use hotswap_core::{Hotswap, Interface, Policy, Trust};

use crate::Result;

/// A plugin's build profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Release,
    Debug,
}

impl Profile {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "debug",
        }
    }
}

/// A plugin of the tests without `unloadable!`, `tests/fixtures/examples/NAME.rs`, built with `--release`.
pub(crate) fn fixture(name: &str) -> Result<PathBuf> {
    built(format!("release/examples/lib{name}.so"))
}

/// The demo's plugin, with `unloadable!`. The debug build has all debug information, like the plugins that authors
/// swap.
pub(crate) fn demo_plugin(profile: Profile) -> Result<PathBuf> {
    built(format!("{}/libplugin.so", profile.name()))
}

/// The folder for the results, which is created if necessary.
pub(crate) fn results() -> Result<PathBuf> {
    let folder = target()?.join("bench");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Loads a plugin into a new swap point.
pub(crate) fn load<I: Interface + ?Sized>(path: &PathBuf) -> Result<Hotswap<I>> {
    Ok(Hotswap::load(path, &trust())?)
}

pub(crate) fn trust() -> Trust {
    let policy = Policy {
        // The owner of the checked-out folder counts as trusted.
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: the files are the plugins of this workspace, which keep the promises of `Trust::vouch`.
    unsafe { Trust::vouch(policy) }
}

fn built(name: String) -> Result<PathBuf> {
    let path = target()?.join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is not built; `scripts/bench` does that", path.display()).into())
}

/// The target folder. This program is `target/release/deps/bench-…`.
fn target() -> Result<PathBuf> {
    let program = env::current_exe()?;
    let target = program.ancestors().nth(3);
    Ok(target.ok_or("not in a target folder")?.to_owned())
}
