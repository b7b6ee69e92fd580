//! The recorder that the library's figures go to.

use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// From a small plugin's `publish` to one that a call has held for long. Without buckets, each server would have
/// quantiles of its own, which cannot be added up.
const SECONDS: [f64; 12] = [
    1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 60.0, 600.0,
];

/// Installs it for the whole process.
pub(crate) fn install() -> Result<PrometheusHandle> {
    let durations = Matcher::Suffix("_seconds".to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(durations, &SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("metrics cannot be recorded")
}
