//! hotswap-core on real plugins.

mod alone;
mod api;
mod evolution;
mod fixtures;
mod forked;
mod history;
mod leaving;
mod limits;
mod manual;
mod process;
mod reading;
mod retained;
mod road;
mod rollback;
mod services;
mod signed;
mod static_tls;
mod storm;
mod symbols;
mod tidy;
mod tracing;
mod trust;
mod unloading;
mod watch;
