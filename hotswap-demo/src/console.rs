//! What the host says, on stderr: whole lines, and the prompt between them.

use std::{
    cell::Cell,
    fmt::Display,
    io::{self, IsTerminal, Write},
};

const PROMPT: &str = "Next plugin: ";

/// stderr, which may be a terminal that shows the prompt at this moment.
pub(crate) struct Console {
    prompts: bool,
    is_terminal: bool,
    /// Whether the cursor stands behind the prompt.
    at_prompt: Cell<bool>,
}

impl Console {
    pub(crate) fn new(prompts: bool) -> Self {
        Self {
            prompts,
            is_terminal: io::stderr().is_terminal(),
            at_prompt: Cell::new(false),
        }
    }

    /// One line, in one write.
    pub(crate) fn say(&self, line: &impl Display) {
        self.make_way();
        write(&format!("{line}\n"));
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
