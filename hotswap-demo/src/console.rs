//! What the host says, on stderr: whole lines, and the prompt between them where a person reads.

use std::{
    cell::Cell,
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;
use serde::Serialize;

use crate::reports::Note;

const PROMPT: &str = "Next plugin: ";

/// stderr, which may be a terminal that shows the prompt at this moment.
pub(crate) struct Console {
    prompts: bool,
    format: Format,
    is_terminal: bool,
    /// Whether the cursor stands behind the prompt.
    at_prompt: Cell<bool>,
}

/// What the lines are.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Sentences
    Text,
    /// One JSON object a line
    Json,
}

impl Console {
    /// With a prompt if there is somebody to be asked; programs are not.
    pub(crate) fn new(prompts: bool, format: Format) -> Self {
        Self {
            prompts: prompts && format == Format::Text,
            format,
            is_terminal: io::stderr().is_terminal(),
            at_prompt: Cell::new(false),
        }
    }

    /// Whole lines, in one write.
    pub(crate) fn say(&self, report: &(impl Display + Serialize)) {
        self.make_way();
        let line = match self.format {
            Format::Text => report.to_string(),
            Format::Json => serde_json::to_string(report).expect("texts and numbers"),
        };
        write(&format!("{line}\n"));
    }

    pub(crate) fn note(&self, text: &str) {
        self.say(&Note { text });
    }

    /// Asks for the next plugin: on a terminal the cursor stays behind it, elsewhere it is a line.
    pub(crate) fn prompt(&self) {
        if !self.prompts {
        } else if self.is_terminal {
            write(PROMPT);
            self.at_prompt.set(true);
        } else {
            write(&format!("{PROMPT}\n"));
        }
    }

    /// After something was said on a terminal while the prompt was there.
    pub(crate) fn prompt_again(&self) {
        if self.is_terminal {
            self.prompt();
        }
    }

    /// Ends the prompt's line, so that what comes next, here or on stdout, begins a line.
    pub(crate) fn make_way(&self) {
        if self.at_prompt.replace(false) {
            write("\n");
        }
    }

    /// A terminal has shown `^C` where the cursor stood.
    pub(crate) fn was_interrupted(&self) {
        if self.is_terminal {
            self.at_prompt.set(true);
        }
    }

    /// The terminal itself has ended the line.
    pub(crate) fn line_was_entered(&self) {
        self.at_prompt.set(false);
    }
}

/// Nobody can be told that stderr cannot be written.
fn write(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
