//! hotswap-core on real plugins.

mod alone;
mod api;
mod descriptors;
mod evolution;
mod fixtures;
mod history;
mod leaving;
mod limits;
mod manual;
mod marks;
mod process;
mod reading;
mod road;
mod rollback;
mod services;
mod shared_std;
mod signed;
mod storm;
mod symbols;
mod tidy;
mod tracing;
mod trust;
mod unloading;
mod watch;
