//! What is written of what plugins log, and of what the library traces.

use std::io;

use anyhow::{Context, Result};
use tracing_subscriber::{filter::Targets, fmt, prelude::*};

/// Has all that passes the filter written to standard error, one JSON object a line.
pub(crate) fn install(filter: Targets) -> Result<()> {
    let lines = fmt::layer().json().with_writer(io::stderr);
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    subscriber.try_init().context("nothing can be logged")
}
