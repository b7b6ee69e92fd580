//! A generation that can be published: it has its number, and is not in the cell yet.

use std::sync::Arc;

use hotswap_cell::Retired;

use super::Generation;
use crate::{
    history::{Phases, PublishKind, Published},
    logs::Logs,
    services::Update,
};

/// A generation that nobody can call yet, or a canary, which is called by leases alone.
pub(super) struct Successor<M> {
    pub(super) generation: Retired<Generation<M>>,
    /// Its update, if services are turned on. Dropped before the generation is retired.
    pub(super) update: Option<Update>,
    pub(super) phases: Phases,
    pub(super) logs: Arc<Logs>,
}

impl<M: Send + Sync> Successor<M> {
    /// Its entry in the list of generations, as live.
    pub(super) fn published(&self, kind: PublishKind) -> Published {
        let generation = self.generation.peek();
        let code = &generation.image;
        Published::of(
            generation.number,
            code.origin(),
            code.image(),
            self.phases,
            kind,
        )
    }
}
