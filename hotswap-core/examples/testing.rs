//! How to test a plugin: builds it, calls it, replaces it, and sees that the old one leaves the process.
//!
//! ```sh
//! cargo test -p hotswap-core --example testing
//! ```
//!
//! What is in the module `tests` works the same in `tests/plugin.rs` of any package that depends on `hotswap-core`,
//! `hotswap-dev` and the interface; it is an example only here, which is why there is a `main`. With `PLUGIN=PATH` it
//! tests a file that was built before, for example the one that is about to be deployed.

fn main() {}

#[cfg(test)]
mod tests {
    use std::{env, path::PathBuf, time::Duration};

    use hotswap_core::{Hotswap, Policy, State, Trust};
    use hotswap_dev::{DevSettings, build};
    use hotswap_types::Plugin;

    /// Long enough for anything that must happen, on any machine.
    const SOON: Duration = Duration::from_secs(60);

    #[test]
    fn it_answers() {
        let plugin = load(&built());
        let answer = plugin.call(|it| it.some_fn(7)).unwrap();
        assert_eq!(answer, "Adding to 10: 17");
    }

    /// What makes it replaceable: nothing of it is left when its successor has taken over. A thread that does not end
    /// shows here and not in production.
    #[test]
    fn it_leaves_when_it_is_replaced() {
        let path = built();
        let plugin = load(&path);
        // What has never run has nothing to leave behind.
        plugin.call(|it| it.some_fn(7)).unwrap();

        // The same file again is a new generation.
        let swapped = plugin.swap(&path).unwrap();
        assert_eq!(plugin.wait(swapped.retired, SOON), Some(State::Unloaded));

        let answer = plugin.call(|it| it.some_fn(8)).unwrap();
        assert_eq!(answer, "Adding to 10: 18");
        let still_mapped = plugin.shutdown(SOON);
        assert!(still_mapped.is_empty(), "{still_mapped:?}");
    }

    fn load(path: &PathBuf) -> Hotswap<dyn Plugin> {
        let policy = Policy {
            // Whoever owns the folder that this was checked out into.
            any_owner: true,
            ..Policy::default()
        };
        // SAFETY: the plugin was built from this workspace.
        let trust = unsafe { Trust::vouch(policy) };
        Hotswap::load(path, &trust).unwrap()
    }

    /// The plugin's path. `cargo test` builds no plugins, as no test links to them: so this does.
    fn built() -> PathBuf {
        if let Some(path) = env::var_os("PLUGIN") {
            return path.into();
        }
        let settings = DevSettings {
            package: Some("hotswap-plugin".to_owned()),
            ..DevSettings::default()
        };
        build(settings).unwrap_or_else(|error| panic!("{error}"))
    }
}
