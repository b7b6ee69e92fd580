//! What the demo asks of a plugin before it trusts it with the real thing.

use hotswap_types::{Answer, PluginRef};

/// Calls everything that the demo calls, and holds the answers against what the interface says of them.
pub(crate) fn probe(plugin: &PluginRef) -> Result<(), String> {
    if plugin.some_data().is_empty() {
        return Err("some_data is empty".to_owned());
    }
    let line = answer("some_fn", plugin.some_fn()(7))?;
    if line.lines().count() != 1 {
        return Err(format!("some_fn: expected one line, found {line:?}"));
    }
    answer("process", plugin.process()("ping".into()))?;
    Ok(())
}

fn answer(name: &str, answer: Answer) -> Result<String, String> {
    let answer = answer.into_result().map(String::from);
    answer.map_err(|fault| format!("{name}: {fault}"))
}
