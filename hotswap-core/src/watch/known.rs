//! What the watch has seen and dealt with.

use crate::{digest::Sha256, given::GivenPath, stage::Way, swap::Accepted};

/// What there is nothing to be done about.
pub(super) struct Known {
    generation: u64,
    path: GivenPath,
    /// The bytes that were accepted last.
    accepted: Option<Sha256>,
    /// The bytes that were refused, if nothing else was there since.
    refused: Option<Sha256>,
    /// How the path led when it was last dealt with.
    way: Option<Way>,
}

impl Known {
    pub(super) fn new(accepted: &Accepted) -> Self {
        Self {
            generation: accepted.generation,
            path: accepted.path.clone(),
            accepted: accepted.sha256(),
            refused: None,
            way: None,
        }
    }

    /// Forgets everything if another candidate was accepted. `true`: it was.
    pub(super) fn follow(&mut self, accepted: &Accepted) -> bool {
        let is_another = accepted.generation != self.generation;
        if is_another {
            *self = Self::new(accepted);
        }
        is_another
    }

    /// The one that was accepted last.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn path(&self) -> &GivenPath {
        &self.path
    }

    pub(super) fn is_way(&self, way: &Way) -> bool {
        self.way.as_ref() == Some(way)
    }

    pub(super) fn set_way(&mut self, way: Way) {
        self.way = Some(way);
    }

    /// Whether there is something to be done about these bytes (none: nobody can tell what they are). They are
    /// there now: what was refused before them is forgotten.
    pub(super) fn is_news(&mut self, found: Option<Sha256>) -> bool {
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
