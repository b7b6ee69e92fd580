//! Where the plugins are that are measured, and where the results go.

use std::{env, fs, path::PathBuf};

use abi_stable::library::RootModule;
use hotswap_core::{Hotswap, Policy, Trust};

use crate::Result;

/// How a plugin was built.
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

/// A plugin of the tests without `unloadable!`, `tests/fixtures/examples/NAME.rs`, as a release build.
pub(crate) fn fixture(name: &str) -> Result<PathBuf> {
    built(format!("release/examples/lib{name}.so"))
}

/// The demo's plugin, with `unloadable!`, and in a debug build with all debug information: what its author swaps.
pub(crate) fn demo_plugin(profile: Profile) -> Result<PathBuf> {
    built(format!("{}/libplugin.so", profile.name()))
}

/// The folder of the results, which is made if need be.
pub(crate) fn results() -> Result<PathBuf> {
    let folder = target()?.join("bench");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A swap point.
pub(crate) fn load<M: RootModule + Send + Sync>(path: &PathBuf) -> Result<Hotswap<M>> {
    Ok(Hotswap::load(path, &trust())?)
}

pub(crate) fn trust() -> Trust {
    let policy = Policy {
        // Whoever owns the folder that this was checked out into.
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: the files are the plugins of this workspace.
    unsafe { Trust::vouch(policy) }
}

fn built(name: String) -> Result<PathBuf> {
    let path = target()?.join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is not built; `scripts/bench` does that", path.display()).into())
}

/// This program is `target/release/deps/bench-…`.
fn target() -> Result<PathBuf> {
    let program = env::current_exe()?;
    let target = program.ancestors().nth(3);
    Ok(target.ok_or("not in a target folder")?.to_owned())
}
