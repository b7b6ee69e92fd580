//! What the host says, on stderr, and what the plugin says, on stdout: whole lines. Where a person types on a terminal,
//! both are shown above the prompt.

use std::{
    fmt::Display,
    io::{self, Write},
};

use clap::ValueEnum;
use serde::Serialize;

use crate::{
    reports::Note,
    terminal::{self, PROMPT, Printer},
};

/// Where everything is shown.
pub(crate) struct Console {
    format: Format,
    /// Whether a line asks for the next plugin.
    prompts: bool,
    /// A terminal on which lines are edited. It has a prompt of its own.
    printer: Option<Printer>,
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
    /// Two streams. If `is_asked`, lines are read, and a line asks for each; programs are not asked.
    pub(crate) fn streams(format: Format, is_asked: bool) -> Self {
        Self {
            format,
            prompts: is_asked && format == Format::Text,
            printer: None,
        }
    }

    /// A terminal.
    pub(crate) fn terminal(printer: Printer) -> Self {
        Self {
            format: Format::Text,
            prompts: false,
            printer: Some(printer),
        }
    }

    /// Whole lines of the host, in one write.
    pub(crate) fn say(&self, report: &(impl Display + Serialize)) {
        let line = match self.format {
            Format::Text => report.to_string(),
            Format::Json => serde_json::to_string(report).expect("texts and numbers"),
        };
        let line = format!("{line}\n");
        match &self.printer {
            Some(printer) => printer.print(&line),
            // Nobody can be told that stderr cannot be written.
            None => drop(io::stderr().lock().write_all(line.as_bytes())),
        }
    }

    pub(crate) fn note(&self, text: &str) {
        self.say(&Note { text });
    }

    /// Whole lines of the plugin.
    pub(crate) fn print(&self, lines: String) -> io::Result<()> {
        match &self.printer {
            Some(printer) => {
                printer.print(&lines);
                Ok(())
            }
            None => io::stdout().lock().write_all(lines.as_bytes()),
        }
    }

    /// Asks for the next plugin.
    pub(crate) fn prompt(&self) {
        if self.prompts {
            drop(
                io::stderr()
                    .lock()
                    .write_all(format!("{PROMPT}\n").as_bytes()),
            );
        }
    }

    /// No line is read any more: gives the terminal back, and says the rest without a prompt.
    pub(crate) fn close(&mut self) {
        terminal::close();
        self.prompts = false;
        self.printer = None;
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.close();
    }
}
