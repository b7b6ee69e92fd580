//! What a person edits to change the answers, and what has to be done then.

use serde::Serialize;

/// For the page.
#[derive(Clone, Serialize)]
pub(crate) struct Guide {
    /// The package of the plugin, if it has told.
    pub(crate) package: Option<String>,
    /// The file whose code answers, from the top of this repository, if it is a plugin of ours.
    pub(crate) file: Option<&'static str>,
    /// What builds the plugin, if that is known and the server does not do it.
    pub(crate) command: Option<&'static str>,
    pub(crate) swaps: Swaps,
}

/// Who swaps in what was built.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Swaps {
    /// The server, which builds it, too.
    Dev,
    /// The server, when the file has changed.
    Watch,
    /// Whoever asks for it.
    Reload,
}

/// The packages of ours that have plugins for the server: the file to edit, and the command that builds it.
const OURS: [(&str, &str, &str); 2] = [
    (
        "hotswap-plugin",
        "hotswap-plugin/src/code.rs",
        "cargo build",
    ),
    (
        "hotswap-demo",
        "hotswap-demo/examples/ws_plugin.rs",
        "cargo build -p hotswap-demo --examples",
    ),
];

impl Guide {
    pub(crate) fn new(package: Option<String>, swaps: Swaps) -> Self {
        let ours = OURS.iter().find(|it| package.as_deref() == Some(it.0));
        Self {
            file: ours.map(|it| it.1),
            command: ours.map(|it| it.2).filter(|_| swaps != Swaps::Dev),
            package,
            swaps,
        }
    }
}
