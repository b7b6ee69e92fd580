//! The loop, with real cargo, on workspaces of its own.

mod building;
mod choosing;
mod ending;
mod workspace;
