//! What the watch has already dealt with.

use crate::{digest::Sha256, given::GivenPath, stage::Route, swap::Accepted};

/// The path that is watched, and the bytes and the route that need no action.
pub(super) struct Handled {
    generation: u64,
    path: GivenPath,
    /// The bytes that were accepted last.
    accepted: Option<Sha256>,
    /// The bytes that were refused, unless other bytes were there since.
    refused: Option<Sha256>,
    /// The route when it was last dealt with.
    route: Option<Route>,
}

impl Handled {
    pub(super) fn new(accepted: &Accepted) -> Self {
        Self {
            generation: accepted.generation,
            path: accepted.path.clone(),
            accepted: accepted.sha256(),
            refused: None,
            route: None,
        }
    }

    /// Starts anew if another candidate was accepted. `true`: it was.
    pub(super) fn follow(&mut self, accepted: &Accepted) -> bool {
        let is_another = accepted.generation != self.generation;
        if is_another {
            *self = Self::new(accepted);
        }
        is_another
    }

    /// The generation that was accepted last.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn path(&self) -> &GivenPath {
        &self.path
    }

    pub(super) fn is_route(&self, route: &Route) -> bool {
        self.route.as_ref() == Some(route)
    }

    pub(super) fn set_route(&mut self, route: Route) {
        self.route = Some(route);
    }

    /// Whether these bytes, which are there now, need action. `None`: they cannot be read. Forgets the refused bytes
    /// if these are others.
    pub(super) fn needs_action(&mut self, found: Option<Sha256>) -> bool {
        if found.is_some() && found == self.refused {
            return false;
        }
        self.refused = None;
        found.is_none() || found != self.accepted
    }

    pub(super) fn refused(&mut self, bytes: Option<Sha256>) {
        self.refused = bytes;
    }
}
