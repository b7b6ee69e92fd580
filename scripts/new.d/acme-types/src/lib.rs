//! The interface: what the host asks for, and what the plugin does. Both depend on this package, and on nothing of each
//! other.
//!
//! A new method goes to the end of the trait and has a body, and a new field goes to the end of a struct and has a
//! `#[data(default)]`: hosts and plugins from before then still work together with those from after. Any other change
//! is a new interface: give this package a new version, and build host and plugin again. A plugin that does not fit its
//! host is refused, with what was expected and what was found.

use hotswap_sdk::{data, interface};

/// Something to do.
#[data]
#[derive(Clone, Debug)]
pub struct Job {
    /// Counts from 1.
    pub number: u64,
    /// What is to be worked on.
    pub text: String,
}

/// Does the work.
#[interface]
pub trait Worker {
    /// Does a job, and says what has come out. The error is for the caller; the plugin goes on.
    fn work(&self, job: &Job) -> Result<String, String>;
}
