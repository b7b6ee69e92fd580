//! What the demo asks of a plugin: of the live one with each tick, and of a candidate before it trusts it with the real
//! thing. Both go through [`ask`], so that a candidate is read to the last byte that the host would read.

use hotswap_types::{Answer, PluginRef};

/// What a plugin says, in the host's memory.
pub(crate) struct Said {
    pub(crate) some_data: String,
    /// Or the plugin's error.
    pub(crate) some_fn: Result<String, String>,
}

/// Asks for what the demo prints.
pub(crate) fn ask(plugin: &PluginRef) -> Said {
    Said {
        some_data: plugin.some_data().to_string(),
        some_fn: answer("some_fn", plugin.some_fn()(7)),
    }
}

/// Asks for all that a host may ask for, and holds the answers against what the interface says of them.
pub(crate) fn probe(plugin: &PluginRef) -> Result<(), String> {
    let Said { some_data, some_fn } = ask(plugin);
    check_text("some_data", &some_data)?;
    if some_data.is_empty() {
        return Err("some_data is empty".to_owned());
    }
    let line = some_fn?;
    check_text("some_fn", &line)?;
    if line.lines().count() != 1 {
        return Err(format!("some_fn: expected one line, found {line:?}"));
    }
    let text = answer("process", plugin.process()("ping".into()))?;
    check_text("process", &text)
}

fn answer(name: &str, answer: Answer) -> Result<String, String> {
    let answer = answer.into_result().map(String::from);
    answer.map_err(|fault| format!("{name}: {fault}"))
}

/// The bytes of a text are as the plugin has made them; a host that prints others than UTF-8 may do anything.
fn check_text(name: &str, text: &str) -> Result<(), String> {
    let checked = str::from_utf8(text.as_bytes());
    checked.map_err(|error| format!("{name}: {error}"))?;
    Ok(())
}
