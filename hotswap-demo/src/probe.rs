//! What a candidate is asked before it is published.

use hotswap_types::Plugin;

/// Calls every method, and compares the answers with what the interface says of them.
pub(crate) fn probe(plugin: &dyn Plugin) -> Result<(), String> {
    let some_data = plugin.some_data();
    check_text("some_data", &some_data)?;
    if some_data.is_empty() {
        return Err("some_data is empty".to_owned());
    }
    let line = plugin.some_fn(7);
    check_text("some_fn", &line)?;
    if line.lines().count() != 1 {
        return Err(format!("some_fn: expected one line, found {line:?}"));
    }
    let answer = plugin.process("ping");
    let answer = answer.map_err(|error| format!("process: {error}"))?;
    check_text("process", &answer)
}

/// The bytes of a text are as the plugin has made them. A damaged file may make others than UTF-8, and a host that
/// prints those may do anything.
fn check_text(method: &str, text: &str) -> Result<(), String> {
    let checked = str::from_utf8(text.as_bytes());
    checked.map_err(|error| format!("{method}: {error}"))?;
    Ok(())
}
