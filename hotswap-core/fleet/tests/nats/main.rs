//! Roll-outs with real parts: nats-server, hosts as processes, plugins that are loaded.
//!
//! Needs nats-server: `scripts/nats run cargo test -p hotswap-fleet --features nats-tests`.

mod builds;
mod fleet;
mod hosts;
mod servers;

mod buckets;
mod canaries;
mod controllers;
mod disks;
mod halts;
mod outages;
mod permissions;
mod refusals;
mod rollouts;
mod stored;
mod strangers;
#[cfg(feature = "nats-table")]
mod table;
mod tls;
