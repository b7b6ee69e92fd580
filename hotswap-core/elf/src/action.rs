//! The relocation types of the machines that this crate knows, and what each type does.
//!
//! The types are those that glibc's loader handles (2.36 to 2.42).

use object::elf::{
    R_AARCH64_ABS32, R_AARCH64_ABS64, R_AARCH64_COPY, R_AARCH64_GLOB_DAT, R_AARCH64_IRELATIVE,
    R_AARCH64_JUMP_SLOT, R_AARCH64_NONE, R_AARCH64_RELATIVE, R_AARCH64_TLS_DTPMOD,
    R_AARCH64_TLS_DTPREL, R_AARCH64_TLS_TPREL, R_AARCH64_TLSDESC, R_X86_64_32, R_X86_64_64,
    R_X86_64_COPY, R_X86_64_DTPMOD64, R_X86_64_DTPOFF64, R_X86_64_GLOB_DAT, R_X86_64_IRELATIVE,
    R_X86_64_JUMP_SLOT, R_X86_64_NONE, R_X86_64_PC32, R_X86_64_RELATIVE, R_X86_64_RELATIVE64,
    R_X86_64_SIZE32, R_X86_64_SIZE64, R_X86_64_TLSDESC, R_X86_64_TPOFF64, RelocationType,
};

use crate::process::Machine;

/// What a relocation does, independent of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    /// Writes an address within the image.
    Relative,
    /// Calls a function of the image and writes what it returns.
    Indirect,
    /// Writes a symbol's address plus a number.
    Address,
    /// Writes a symbol's address, for code to load or jump to.
    Slot,
    /// Writes four bytes.
    Word,
    /// Writes the size of a symbol, as four or as eight bytes.
    Size(u64),
    /// Writes a value that describes a thread-local: a module number, or an offset.
    ThreadLocal,
    /// Writes the offset of a thread-local that must be in the static TLS block.
    StaticThreadLocal,
    /// Writes two words that describe a thread-local.
    ThreadLocalPair,
    /// Copies a symbol's bytes; only executables may have it.
    Copy,
    /// The machine's relocation types are not known here.
    Unknown,
}

impl Action {
    /// What the relocation type `kind` does on `machine`. `None`: the loader does not know the type.
    pub(crate) fn of(machine: Machine, kind: RelocationType) -> Option<Self> {
        match machine {
            Machine::X86_64 => x86_64(kind),
            Machine::AARCH64 => aarch64(kind),
            // On every machine, type zero is no relocation.
            _ if kind.0 == 0 => Some(Self::Nothing),
            _ => Some(Self::Unknown),
        }
    }

    /// The number of bytes that the relocation writes, at least.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Word | Self::Unknown => 4,
            Self::Size(bytes) => bytes,
            Self::ThreadLocalPair => 16,
            _ => 8,
        }
    }

    /// Whether the loader can defer the relocation; linkers then put it into `DT_JMPREL`.
    pub(crate) fn may_be_lazy(self) -> bool {
        matches!(
            self,
            Self::Slot | Self::Indirect | Self::ThreadLocalPair | Self::Unknown | Self::Nothing
        )
    }
}

fn x86_64(kind: RelocationType) -> Option<Action> {
    Some(match kind {
        R_X86_64_NONE => Action::Nothing,
        R_X86_64_RELATIVE | R_X86_64_RELATIVE64 => Action::Relative,
        R_X86_64_IRELATIVE => Action::Indirect,
        R_X86_64_64 => Action::Address,
        R_X86_64_GLOB_DAT | R_X86_64_JUMP_SLOT => Action::Slot,
        R_X86_64_32 | R_X86_64_PC32 => Action::Word,
        R_X86_64_SIZE32 => Action::Size(4),
        R_X86_64_SIZE64 => Action::Size(8),
        R_X86_64_DTPMOD64 | R_X86_64_DTPOFF64 => Action::ThreadLocal,
        R_X86_64_TPOFF64 => Action::StaticThreadLocal,
        R_X86_64_TLSDESC => Action::ThreadLocalPair,
        R_X86_64_COPY => Action::Copy,
        _ => return None,
    })
}

fn aarch64(kind: RelocationType) -> Option<Action> {
    Some(match kind {
        R_AARCH64_NONE => Action::Nothing,
        R_AARCH64_RELATIVE => Action::Relative,
        R_AARCH64_IRELATIVE => Action::Indirect,
        R_AARCH64_ABS64 => Action::Address,
        R_AARCH64_GLOB_DAT | R_AARCH64_JUMP_SLOT => Action::Slot,
        R_AARCH64_ABS32 => Action::Word,
        R_AARCH64_TLS_DTPMOD | R_AARCH64_TLS_DTPREL => Action::ThreadLocal,
        R_AARCH64_TLS_TPREL => Action::StaticThreadLocal,
        R_AARCH64_TLSDESC => Action::ThreadLocalPair,
        R_AARCH64_COPY => Action::Copy,
        _ => return None,
    })
}
