//! hotswap-core on real plugins.

mod alone;
mod api;
mod coroutines;
mod evolution;
mod fixtures;
mod history;
mod leaving;
mod limits;
mod manual;
mod process;
mod reading;
mod road;
mod rollback;
mod services;
mod signed;
mod storm;
mod symbols;
mod tidy;
mod tracing;
mod trust;
mod unloading;
mod watch;
