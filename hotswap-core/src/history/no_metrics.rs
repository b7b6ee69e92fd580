//! Stands for `metrics` without the feature of that name: it records nothing.

use std::time::Duration;

use super::{Event, GenerationInfo};

#[derive(Clone, Debug)]
pub(crate) struct Metrics;

pub(crate) struct SideMetrics;

impl SideMetrics {
    #[inline]
    pub(crate) fn call(&self, _: Duration) {}

    #[inline]
    pub(crate) fn fault(&self) {}
}

impl Metrics {
    pub(crate) fn new(_: &str) -> Self {
        Self
    }

    pub(super) fn note<'a>(
        &self,
        _: impl Iterator<Item = &'a GenerationInfo>,
        _: Option<u64>,
        _: &[Event],
    ) {
    }

    pub(super) fn missed(&self, _: u64) {}

    pub(super) fn record(&self, _: &[Event]) {}

    #[inline]
    pub(crate) fn fault(&self) {}

    pub(crate) fn side(&self, _: &'static str) -> SideMetrics {
        SideMetrics
    }
}
