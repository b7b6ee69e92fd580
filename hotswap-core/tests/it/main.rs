//! hotswap-core on real plugins.

mod fixtures;
mod leaving;
mod process;
mod reading;
mod road;
mod storm;
mod tidy;
mod unloading;
