//! Which package of a workspace is the plugin, and which folders its sources are in, by `cargo metadata`.
//!
//! It asks cargo for the workspace's own packages only. That takes 10 ms and needs neither a lock file nor a network. A
//! package outside of the workspace that one of these names by its path is watched, but not what that one depends on.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, TargetKind};

use crate::error::DevError;

/// The packages of a workspace.
pub(crate) struct Packages(Metadata);

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
        let mut command = MetadataCommand::new();
        command.cargo_path(cargo).current_dir(folder).no_deps();
        let metadata = command.exec().map_err(|error| {
            let said = match error {
                cargo_metadata::Error::CargoMetadata { stderr } => stderr,
                error => error.to_string(),
            };
            let said = said.trim().to_owned();
            DevError::Metadata { said }
        })?;
        Ok(Self(metadata))
    }

    /// The plugin's package: `name` if it is one, else the only one.
    pub(crate) fn plugin(&self, name: Option<&str>) -> Result<PluginPackage, DevError> {
        let packages = self.0.workspace_packages();
        let is_plugin = |package: &&Package| {
            let targets = &package.targets;
            targets.iter().any(|it| it.is_kind(TargetKind::CDyLib))
        };
        let found: Vec<_> = packages.into_iter().filter(is_plugin).collect();
        let plugins = || found.iter().map(|it| it.name.to_string()).collect();
        let plugin = match (name, &found[..]) {
            (Some(name), _) => found.iter().find(|it| *it.name == name).ok_or_else(|| {
                let package = name.to_owned();
                let plugins = plugins();
                DevError::NotAPlugin { package, plugins }
            })?,
            (None, [plugin]) => plugin,
            (None, []) => {
                let workspace = self.0.workspace_root.clone().into();
                return Err(DevError::NoPlugin { workspace });
            }
            (None, _) => {
                let plugins = plugins();
                return Err(DevError::SeveralPlugins { plugins });
            }
        };
        Ok(PluginPackage {
            name: plugin.name.to_string(),
            manifest: plugin.manifest_path.clone().into(),
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.packages.iter().any(|it| *it.name == name)
    }

    /// Where the sources of a plugin are, and those of what it depends on by path.
    pub(crate) fn places(&self, plugin: &PluginPackage) -> Places {
        let mut folders = BTreeSet::new();
        let mut open: Vec<&Path> = plugin.manifest.parent().into_iter().collect();
        while let Some(folder) = open.pop() {
            if !folders.insert(folder.to_owned()) {
                continue;
            }
            let package = self
                .0
                .packages
                .iter()
                .find(|it| it.manifest_path.parent().is_some_and(|it| it == folder));
            let dependencies = package.iter().flat_map(|it| &it.dependencies);
            open.extend(
                dependencies
                    .filter(|it| it.kind != DependencyKind::Development)
                    .filter_map(|it| it.path.as_ref())
                    .map(AsRef::<Path>::as_ref),
            );
        }
        let root = self.0.workspace_root.as_std_path();
        Places {
            folders,
            files: FILES.map(|name| root.join(name)).into(),
            target: self.0.target_directory.clone().into(),
        }
    }
}
