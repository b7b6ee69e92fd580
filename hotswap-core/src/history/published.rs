//! What is published: the entry of a new generation, and the events that go with it.

use std::time::SystemTime;

use hotswap_elf::Facts;

use super::{
    Happened,
    event::EventKind,
    generation::{GenerationInfo, Phases, State},
};
use crate::{image::Image, stage::Origin};

/// Why a generation is published.
#[derive(Clone, Copy)]
pub(crate) enum PublishKind {
    /// A new candidate, or a library of a loader.
    Candidate,
    /// The bytes of the live generation, with another configuration.
    Configuration { of: u64 },
    /// A rollback to a generation that is not mapped any more: its bytes, loaded again.
    Rollback { to: u64 },
}

/// A generation that has just become live.
pub(crate) struct Published {
    pub(super) entry: GenerationInfo,
    pub(super) kind: PublishKind,
    pub(super) followed_link: bool,
    pub(crate) phases: Phases,
    /// The generation that was live before.
    pub(crate) before: Option<u64>,
    /// Whether the one before is standby.
    pub(crate) on_probation: bool,
}

impl Published {
    /// A generation with no generation before it; the caller sets `before`. A value of the host's own has no image.
    pub(crate) fn of(
        number: u64,
        origin: &Origin,
        image: Option<&Image>,
        phases: Phases,
        kind: PublishKind,
    ) -> Self {
        let loaded_again = match kind {
            PublishKind::Candidate | PublishKind::Configuration { .. } => None,
            PublishKind::Rollback { to } => Some(to),
        };
        let facts = image.map(Image::facts);
        let (name, version) = image.and_then(Image::package).unzip();
        let entry = GenerationInfo {
            number,
            path: origin.given.to_path_buf(),
            real_path: origin.real.clone(),
            file_bytes: origin.bytes,
            build_id: facts.and_then(|it| it.build_id.clone()),
            sha256: origin.sha256,
            name,
            version,
            published: SystemTime::now(),
            loaded_again,
            unloadable_problem: image.and_then(Image::unloadable_problem),
            static_tls_bytes: facts.and_then(Facts::static_tls_bytes),
            serial: origin.claims.serial,
            expires: origin.claims.expires,
            old_libraries: image.map_or_else(Vec::new, |it| it.old_libraries().to_vec()),
            state: State::Live,
        };
        Self {
            entry,
            kind,
            followed_link: origin.followed_link,
            phases,
            before: None,
            on_probation: false,
        }
    }

    /// The event that it is live.
    pub(super) fn event(&self) -> Happened {
        let accepted = |configures| EventKind::Accepted {
            path: self.entry.path.clone(),
            real_path: self.entry.real_path.clone(),
            followed_link: self.followed_link,
            configures,
            phases: self.phases,
        };
        let number = self.entry.number;
        match self.kind {
            PublishKind::Candidate => (Some(number), accepted(None)),
            PublishKind::Configuration { of } => (Some(number), accepted(Some(of))),
            PublishKind::Rollback { to } => {
                let back = EventKind::RolledBack {
                    live: number,
                    loaded_again: Some(to),
                    why: None,
                };
                (self.before, back)
            }
        }
    }

    /// Events for an operator: what the generation needs that may become a problem.
    pub(super) fn of_note(&self) -> impl Iterator<Item = Happened> + use<> {
        let generation = Some(self.entry.number);
        let bytes = self.entry.static_tls_bytes;
        let static_tls = bytes.map(|bytes| EventKind::StaticTls { bytes });
        let libraries = self.entry.old_libraries.clone().into_iter();
        let libraries = libraries.map(|library| EventKind::OldLibrary { library });
        let all = static_tls.into_iter().chain(libraries);
        all.map(move |kind| (generation, kind))
    }
}
