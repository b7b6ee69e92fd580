//! Which package of a workspace is the plugin, and which folders its sources are in, by `cargo metadata`.
//!
//! It asks cargo for the workspace's own packages only. That takes 10 ms and needs neither a lock file nor a network. A
//! package outside of the workspace that one of these names by its path is watched, but not what that one depends on.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::error::DevError;

/// The packages of a workspace, as `cargo metadata` has them
/// (<https://doc.rust-lang.org/cargo/commands/cargo-metadata.html>).
#[derive(Deserialize)]
pub(crate) struct Packages {
    /// Without dependencies, those of the workspace alone.
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Dependency {
    /// `None`: a normal one.
    kind: Option<String>,
    path: Option<PathBuf>,
}

/// The package of a plugin.
#[derive(Clone)]
pub(crate) struct PluginPackage {
    pub(crate) name: String,
    pub(crate) manifest: PathBuf,
}

/// Where to look for sources.
#[derive(Default)]
pub(crate) struct Places {
    /// Folders with all that is below them.
    pub(crate) folders: BTreeSet<PathBuf>,
    /// Single files.
    pub(crate) files: Vec<PathBuf>,
    /// The target folder, which may lie in one of the folders.
    pub(crate) target: PathBuf,
}

/// What changes a build, in the folder of a workspace.
const FILES: [&str; 6] = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain",
    "rust-toolchain.toml",
    ".cargo/config",
    ".cargo/config.toml",
];

impl Packages {
    /// Asks cargo, as if in `folder`.
    pub(crate) fn read(cargo: &Path, folder: &Path) -> Result<Self, DevError> {
        let failed = |said: &str| {
            let said = said.trim().to_owned();
            DevError::Metadata { said }
        };
        let mut command = Command::new(cargo);
        command.args(["metadata", "--no-deps", "--format-version=1"]);
        command.current_dir(folder).stdin(Stdio::null());
        let output = command
            .output()
            .map_err(|error| failed(&error.to_string()))?;
        if !output.status.success() {
            return Err(failed(&String::from_utf8_lossy(&output.stderr)));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| failed(&error.to_string()))
    }

    /// The plugin's package: `name` if it is one, else the only one.
    pub(crate) fn plugin(&self, name: Option<&str>) -> Result<PluginPackage, DevError> {
        let is_plugin = |package: &&Package| {
            let mut kinds = package.targets.iter().flat_map(|it| &it.kind);
            kinds.any(|it| it == "cdylib")
        };
        let found: Vec<_> = self.packages.iter().filter(is_plugin).collect();
        let plugins = || found.iter().map(|it| it.name.clone()).collect();
        let plugin = match (name, &found[..]) {
            (Some(name), _) => found.iter().find(|it| it.name == name).ok_or_else(|| {
                let package = name.to_owned();
                let plugins = plugins();
                DevError::NotAPlugin { package, plugins }
            })?,
            (None, [plugin]) => plugin,
            (None, []) => {
                let workspace = self.workspace_root.clone();
                return Err(DevError::NoPlugin { workspace });
            }
            (None, _) => {
                let plugins = plugins();
                return Err(DevError::SeveralPlugins { plugins });
            }
        };
        Ok(PluginPackage {
            name: plugin.name.clone(),
            manifest: plugin.manifest_path.clone(),
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.packages.iter().any(|it| it.name == name)
    }

    /// Where the sources of a plugin are, and those of what it depends on by path.
    pub(crate) fn places(&self, plugin: &PluginPackage) -> Places {
        let mut folders = BTreeSet::new();
        let mut open: Vec<&Path> = plugin.manifest.parent().into_iter().collect();
        while let Some(folder) = open.pop() {
            if !folders.insert(folder.to_owned()) {
                continue;
            }
            let mut packages = self.packages.iter();
            let package = packages.find(|it| it.manifest_path.parent() == Some(folder));
            let dependencies = package.iter().flat_map(|it| &it.dependencies);
            open.extend(
                dependencies
                    .filter(|it| it.kind.as_deref() != Some("dev"))
                    .filter_map(|it| it.path.as_deref()),
            );
        }
        Places {
            folders,
            files: FILES.map(|name| self.workspace_root.join(name)).into(),
            target: self.target_directory.clone(),
        }
    }
}
