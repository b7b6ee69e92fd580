//! What an [`ErrorKind`] determines: the stage, the setting that decides it, and whether it is transient.

use super::{ErrorKind, Stage};
use crate::system::signals;

impl ErrorKind {
    /// The stage at which a candidate is refused for it.
    pub(crate) fn stage(&self) -> Stage {
        match self {
            Self::InvalidPath { .. }
            | Self::NotFound { .. }
            | Self::NotAFile { .. }
            | Self::CannotOpen { .. }
            | Self::KeepsChanging { .. }
            | Self::TooLarge { .. }
            | Self::TooManyLibraries { .. }
            | Self::NothingToWatch
            | Self::NothingToConfigure => Stage::Open,
            Self::NoTrust
            | Self::Root { .. }
            | Self::NotTrusted { .. }
            | Self::Pin { .. }
            | Self::NoPublicKey
            | Self::Signature { .. }
            | Self::Expired { .. }
            | Self::SerialTooLow { .. }
            | Self::SerialFile { .. }
            | Self::Crashed { .. }
            | Self::CrashFolder { .. }
            | Self::RelativeFolder { .. } => Stage::Trust,
            Self::Library { cause, .. } => match cause.stage() {
                // `Inspect` would say that the candidate's own bytes are bad. It is a library that is.
                Stage::Inspect => Stage::Open,
                stage => stage,
            },
            Self::CannotCopy { .. } => Stage::Copy,
            Self::Malformed { .. } | Self::SharesRust { .. } | Self::NoRootModule { .. } => {
                Stage::Inspect
            }
            Self::Link { .. } => Stage::Link,
            Self::BadHeader { .. } | Self::AbiStable { symbol: None, .. } => Stage::Header,
            Self::AbiStable { .. } | Self::NoSymbol { .. } | Self::BadSymbol { .. } => {
                Stage::Symbol
            }
            Self::Version { .. } => Stage::Version,
            Self::Layout { .. } | Self::RefType { .. } | Self::MissingHostService { .. } => {
                Stage::Layout
            }
            Self::ConstructorFailed { .. } | Self::NotCode { .. } => Stage::Root,
            Self::Probe { .. } => Stage::Probe,
            Self::Update { .. } => Stage::Update,
            Self::Abandoned { .. } => Stage::Canary,
            Self::Trial { .. } => Stage::Trial,
            Self::Descriptors { .. } => Stage::Unload,
            Self::Panicked { stage, .. }
            | Self::Died { stage, .. }
            | Self::TimedOut { stage, .. }
            | Self::RefusedInTrial { stage, .. } => *stage,
            Self::SerialNotKept { .. }
            | Self::NoThread { .. }
            | Self::NoMemory { .. }
            | Self::NoMappings { .. }
            | Self::Retired { .. }
            | Self::UnloadingBehind { .. }
            | Self::Forked { .. }
            | Self::UnsupportedPlatform { .. }
            | Self::NoEarlierGeneration
            | Self::Busy { .. } => Stage::Host,
        }
    }

    /// The field that decides it, for [`Error::setting`](super::Error::setting).
    pub(super) fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Root { .. } => Some("Policy::root"),
            Self::NotTrusted { why, .. } => why.setting(),
            Self::NoPublicKey => Some("Policy::public_key"),
            Self::SerialTooLow {
                is_in_file: false, ..
            } => Some("Policy::serial_min"),
            Self::SerialTooLow { .. } | Self::SerialFile { .. } | Self::SerialNotKept { .. } => {
                Some("Policy::serial_file")
            }
            Self::Crashed { .. } | Self::CrashFolder { .. } => Some("Policy::avoid_crashed"),
            Self::Library { cause, .. } => cause.setting(),
            _ => None,
        }
    }

    /// Whether the same bytes may be accepted later, for [`Error::is_transient`](super::Error::is_transient).
    pub(super) fn is_transient(&self) -> bool {
        let came_from_outside = match self {
            Self::Died { signal, .. } => !signal.is_some_and(signals::is_fault),
            Self::TimedOut { .. } => true,
            _ => false,
        };
        came_from_outside || self.stage().is_transient()
    }
}
