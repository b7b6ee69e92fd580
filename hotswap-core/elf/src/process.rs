//! The process that would open the file: its machine, its page size, and what its loader cannot do.

use std::fmt;

use object::elf::{
    self, EM_386, EM_AARCH64, EM_ARM, EM_LOONGARCH, EM_MIPS, EM_NONE, EM_PPC, EM_PPC64, EM_RISCV,
    EM_S390, EM_SPARCV9, EM_X86_64,
};

/// A processor architecture, identified by its number in ELF files (`e_machine`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine(u16);

impl Machine {
    /// The machine is not known. Files for all machines pass; the loader has to tell them apart.
    pub const UNKNOWN: Self = Self(EM_NONE.0);
    /// 64-bit x86.
    pub const X86_64: Self = Self(EM_X86_64.0);
    /// 64-bit ARM.
    pub const AARCH64: Self = Self(EM_AARCH64.0);

    /// The machine that this code is compiled for, or [`UNKNOWN`](Self::UNKNOWN) if this crate has no number for it.
    pub const NATIVE: Self = Self(
        if cfg!(target_arch = "x86_64") {
            EM_X86_64
        } else if cfg!(target_arch = "aarch64") {
            EM_AARCH64
        } else if cfg!(target_arch = "riscv64") {
            EM_RISCV
        } else if cfg!(target_arch = "powerpc64") {
            EM_PPC64
        } else if cfg!(target_arch = "s390x") {
            EM_S390
        } else if cfg!(target_arch = "loongarch64") {
            EM_LOONGARCH
        } else if cfg!(target_arch = "sparc64") {
            EM_SPARCV9
        } else {
            EM_NONE
        }
        .0,
    );

    /// The machine with this `e_machine` number.
    pub const fn from_number(number: u16) -> Self {
        Self(number)
    }

    /// The machine's `e_machine` number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Whether this crate knows the machine's relocation types.
    pub(crate) fn has_known_relocations(self) -> bool {
        matches!(self, Self::X86_64 | Self::AARCH64)
    }
}

/// The name that operators use: `x86-64`, or `machine 0x1234`.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match elf::Machine(self.0) {
            EM_X86_64 => "x86-64",
            EM_386 => "x86 (32-bit)",
            EM_AARCH64 => "aarch64",
            EM_ARM => "arm (32-bit)",
            EM_RISCV => "riscv",
            EM_PPC => "powerpc",
            EM_PPC64 => "powerpc64",
            EM_S390 => "s390x",
            EM_LOONGARCH => "loongarch",
            EM_MIPS => "mips",
            EM_SPARCV9 => "sparc64",
            _ => return write!(f, "machine {:#x}", self.0),
        })
    }
}

/// A 64-bit process that would open the file. It has the byte order of the inspecting process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub(crate) machine: Machine,
    /// A power of two.
    pub(crate) page_bytes: u64,
    /// Whether the loader applies packed relative relocations (`DT_RELR`).
    pub(crate) applies_relr: bool,
}

impl Process {
    /// A process on `machine` whose memory pages have `page_bytes` bytes (`sysconf(_SC_PAGESIZE)`). A number that is
    /// not a power of two cannot be a page size, and counts as 4096. Its loader applies packed relative relocations.
    pub const fn new(machine: Machine, page_bytes: u64) -> Self {
        let page_bytes = if page_bytes.is_power_of_two() {
            page_bytes
        } else {
            4096
        };
        Self {
            machine,
            page_bytes,
            applies_relr: true,
        }
    }

    /// The same process with a loader that does not know packed relative relocations (`DT_RELR`), such as that of
    /// glibc before 2.36. It ignores them without a word, and then follows pointers that it has not relocated: files
    /// that have such relocations are refused.
    pub const fn without_relr(self) -> Self {
        Self {
            applies_relr: false,
            ..self
        }
    }
}
