//! Relocations: every write that the loader does into the image before it runs any of its code.
//!
//! The loader checks a type, and nothing else: not where it writes, not which symbol it reads, not what it leaves. An
//! address that is left may lie a little outside of the segments (`Memory::is_near`), because compilers put constants
//! into addresses. A wrong address inside of the image cannot be told from a right one. The types are those that glibc's
//! loader handles (2.36 to 2.42); on machines without a table here only targets and symbol numbers are checked.

use object::elf::{
    EM_AARCH64, EM_X86_64, Machine, R_AARCH64_ABS32, R_AARCH64_ABS64, R_AARCH64_COPY,
    R_AARCH64_GLOB_DAT, R_AARCH64_IRELATIVE, R_AARCH64_JUMP_SLOT, R_AARCH64_NONE,
    R_AARCH64_RELATIVE, R_AARCH64_TLS_DTPMOD, R_AARCH64_TLS_DTPREL, R_AARCH64_TLS_TPREL,
    R_AARCH64_TLSDESC, R_X86_64_32, R_X86_64_64, R_X86_64_COPY, R_X86_64_DTPMOD64,
    R_X86_64_DTPOFF64, R_X86_64_GLOB_DAT, R_X86_64_IRELATIVE, R_X86_64_JUMP_SLOT, R_X86_64_NONE,
    R_X86_64_PC32, R_X86_64_RELATIVE, R_X86_64_RELATIVE64, R_X86_64_SIZE32, R_X86_64_SIZE64,
    R_X86_64_TLSDESC, R_X86_64_TPOFF64, Rela64, RelocationType, SHN_ABS, SHN_UNDEF, STB_LOCAL,
    STB_WEAK, STT_TLS,
};
use object::{NativeEndian as E, U64};

use super::calls::{Calls, Written, is_function};
use super::dynamic::{Dynamic, Table, not_readable};
use super::memory::Memory;
use super::symbols::{Symbol, Symbols};
use super::tables::Tables;
use super::targets::Targets;
use super::{Facts, Process, Refusal, refuse};

type Relocation = Rela64<E>;

/// What a relocation does, whatever the machine calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
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
    /// Writes something about a thread-local.
    ThreadLocal,
    /// The same, and it must be in the static TLS block.
    StaticThreadLocal,
    /// The same, as two words.
    ThreadLocalPair,
    /// Copies a symbol's bytes: for executables only.
    Copy,
    /// On a machine without a table.
    Unknown,
}

impl Action {
    /// How many bytes it writes, at least.
    fn bytes(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Word | Self::Unknown => 4,
            Self::Size(bytes) => bytes,
            Self::ThreadLocalPair => 16,
            _ => 8,
        }
    }

    /// Whether the loader knows how to put it off, and so linkers put it into the second table.
    fn may_be_lazy(self) -> bool {
        matches!(
            self,
            Self::Slot | Self::Indirect | Self::ThreadLocalPair | Self::Unknown | Self::Nothing
        )
    }
}

/// Whether the types of `machine` are known here.
pub(super) fn knows(machine: Machine) -> bool {
    machine == EM_X86_64 || machine == EM_AARCH64
}

/// Checks every relocation, and tells `calls` what they write.
pub(super) fn check(
    memory: &Memory<'_>,
    dynamic: &Dynamic<'_>,
    symbols: &Symbols<'_>,
    tables: &Tables,
    calls: &mut Calls,
    facts: &mut Facts,
    process: Process,
) -> Result<(), Refusal> {
    let mut work = Work {
        memory,
        dynamic,
        symbols,
        tables,
        calls,
        facts,
        process,
        targets: Targets::new(memory),
    };
    work.check_relr(dynamic.relr)?;
    work.check_rela("DT_RELA", dynamic.rela, dynamic.relative_count)?;
    work.check_rela("DT_JMPREL", dynamic.plt, 0)
}

struct Work<'w, 'a> {
    memory: &'w Memory<'a>,
    dynamic: &'w Dynamic<'a>,
    symbols: &'w Symbols<'a>,
    tables: &'w Tables,
    calls: &'w mut Calls,
    facts: &'w mut Facts,
    process: Process,
    targets: Targets,
}

impl Work<'_, '_> {
    fn check_rela(&mut self, name: &str, table: Table, relative_count: u64) -> Result<(), Refusal> {
        if table.bytes == 0 {
            return Ok(());
        }
        let each = size_of::<Relocation>() as u64;
        let Some(entries) = self
            .memory
            .table::<Relocation>(table.address, table.bytes / each)
        else {
            return refuse(not_readable(name, table));
        };
        let relative = usize::try_from(relative_count).unwrap_or(usize::MAX);
        if relative > entries.len() {
            return refuse(format!(
                "DT_RELACOUNT is {relative}, there are {} relocations",
                entries.len()
            ));
        }
        // The second table may be the end of the first.
        let shared = match name {
            "DT_RELA" => self.dynamic.plt.range(),
            _ => 0..0,
        };
        let addresses = (table.address..).step_by(size_of::<Relocation>());
        for (number, (entry, address)) in entries.iter().zip(addresses).enumerate() {
            let action = self.check_one(entry)?;
            if !shared.contains(&address) {
                self.take_target(entry.r_offset.get(E), action)?;
            }
            if name == "DT_JMPREL" && !action.may_be_lazy() {
                return refuse(format!(
                    "DT_JMPREL has a relocation of type {}",
                    entry.r_type(E, false).0
                ));
            }
            // glibc asserts it: exit(127).
            if number < relative && action != Action::Relative && action != Action::Unknown {
                return refuse(format!(
                    "relocation {number} is among the {relative} relative ones (DT_RELACOUNT), but is not relative"
                ));
            }
        }
        Ok(())
    }

    fn check_one(&mut self, entry: &Relocation) -> Result<Action, Refusal> {
        let target = entry.r_offset.get(E);
        let kind = entry.r_type(E, false);
        let Some(action) = action(self.process.machine, kind) else {
            return refuse(format!(
                "relocation at {target:#x} has type {}, which no loader knows",
                kind.0
            ));
        };
        let addend = entry.r_addend.get(E).cast_unsigned();
        // The loader looks up the version of the symbol whatever the type.
        let symbol = self.symbols.referred(self.memory, entry.r_sym(E, false))?;
        if action == Action::Nothing {
            // What linkers leave of a relocation that they took back has none. Another table, or this one from
            // a wrong place on, looks like that: its relocations would be missing when code runs.
            if addend != 0 {
                return refuse(format!(
                    "relocation at {target:#x} does nothing, but has an addend ({addend:#x})"
                ));
            }
            return Ok(action);
        }
        let written = match action {
            Action::Relative => Written::Here(addend),
            Action::Indirect => self.check_resolver(target, addend)?,
            Action::Address => address_written(symbol, addend),
            Action::Slot if entry.r_sym(E, false) == 0 || !target.is_multiple_of(8) => {
                return refuse(format!(
                    "relocation at {target:#x} is unaligned or for no symbol"
                ));
            }
            Action::Slot => address_written(symbol, addend),
            Action::ThreadLocal | Action::StaticThreadLocal | Action::ThreadLocalPair => {
                self.check_thread_local(target, (entry.r_sym(E, false), symbol), action)?;
                Written::Number
            }
            Action::Copy => {
                return refuse(format!(
                    "relocation at {target:#x} copies a symbol, as only executables do"
                ));
            }
            // The loader takes it for granted that there is such a symbol.
            Action::Size(_)
                if symbol.st_bind() == STB_WEAK && symbol.st_shndx.get(E) == SHN_UNDEF =>
            {
                return refuse(format!(
                    "relocation at {target:#x} is for the size of {}, which need not be there",
                    self.symbols.name(symbol)
                ));
            }
            Action::Nothing | Action::Word | Action::Size(_) | Action::Unknown => Written::Number,
        };
        self.check_target(target, action.bytes())?;
        if let Written::Here(address) = written {
            self.check_address(target, address)?;
        }
        if action != Action::Unknown {
            self.calls.write(target, action.bytes(), written)?;
        }
        Ok(action)
    }

    fn check_resolver(&mut self, target: u64, address: u64) -> Result<Written, Refusal> {
        self.facts.ifuncs = true;
        if is_function(self.memory, self.tables, address) {
            return Ok(Written::Elsewhere);
        }
        refuse(format!(
            "relocation at {target:#x} calls {address:#x}, which is not executable code"
        ))
    }

    /// glibc divides by the alignment of the segment in which the symbol is: there must be one.
    fn check_thread_local(
        &mut self,
        target: u64,
        (number, symbol): (u32, &Symbol),
        action: Action,
    ) -> Result<(), Refusal> {
        self.facts.static_tls |= action == Action::StaticThreadLocal;
        // A local symbol may name the section instead.
        let local = number == 0 || symbol.st_bind() == STB_LOCAL;
        if !local && symbol.st_type() != STT_TLS {
            return refuse(format!(
                "relocation at {target:#x} treats {} as a thread-local, which it is not",
                self.symbols.name(symbol)
            ));
        }
        let ours = local || symbol.st_shndx.get(E) != SHN_UNDEF;
        if ours && self.memory.tls.is_none() {
            return refuse(format!(
                "relocation at {target:#x} is for a thread-local, but there is no thread-local segment"
            ));
        }
        Ok(())
    }

    /// Packed relative relocations: an address, then bitmaps of the 63 words after it, each.
    fn check_relr(&mut self, table: Table) -> Result<(), Refusal> {
        const WORDS_A_BITMAP: u64 = 63;
        if table.bytes == 0 {
            return Ok(());
        }
        let Some(entries) = self.memory.table::<U64<E>>(table.address, table.bytes / 8) else {
            return refuse(not_readable("DT_RELR", table));
        };
        let mut next: Option<u64> = None;
        for entry in entries.iter().map(|entry| entry.get(E)) {
            if entry & 1 == 0 {
                self.check_in_place(entry)?;
                next = entry.checked_add(8);
                continue;
            }
            let Some(start) = next else {
                return refuse("DT_RELR has a bitmap without an address to begin from");
            };
            let mut bits = entry >> 1;
            while bits != 0 {
                let word = u64::from(bits.trailing_zeros());
                self.check_in_place(start.saturating_add(word * 8))?;
                bits &= bits.wrapping_sub(1);
            }
            next = start.checked_add(WORDS_A_BITMAP * 8);
        }
        Ok(())
    }

    fn check_in_place(&mut self, target: u64) -> Result<(), Refusal> {
        self.check_target(target, 8)?;
        self.take_target(target, Action::Relative)?;
        // It has a place in the file, so that this is there.
        let address = self.memory.item::<U64<E>>(target).map_or(0, |it| it.get(E));
        self.check_address(target, address)?;
        self.calls.write(target, 8, Written::InPlace)
    }

    fn take_target(&mut self, target: u64, action: Action) -> Result<(), Refusal> {
        match action {
            Action::Nothing | Action::Unknown => Ok(()),
            _ => self.targets.write(self.memory, target, action.bytes()),
        }
    }

    fn check_address(&self, target: u64, address: u64) -> Result<(), Refusal> {
        if self.memory.is_near(address) {
            return Ok(());
        }
        refuse(format!(
            "relocation at {target:#x} leaves the address {address:#x}, which is outside of the image"
        ))
    }

    fn check_target(&self, target: u64, bytes: u64) -> Result<(), Refusal> {
        if !self
            .memory
            .is_writable(target, bytes, self.dynamic.text_relocations)
        {
            return refuse(format!(
                "relocation at {target:#x} would write where the image is not writable"
            ));
        }
        if let Some(table) = self.tables.at(target, bytes) {
            return refuse(format!(
                "relocation at {target:#x} would write into {table}"
            ));
        }
        Ok(())
    }
}

fn address_written(symbol: &Symbol, addend: u64) -> Written {
    match symbol.st_shndx.get(E) {
        SHN_UNDEF => return Written::Elsewhere,
        // No address of the image: a number that a linker script has given a name.
        SHN_ABS => return Written::Number,
        _ => {}
    }
    // Another library's symbol of the same name may win; ours should make sense nevertheless.
    Written::Here(symbol.st_value.get(E).wrapping_add(addend))
}

fn action(machine: Machine, kind: RelocationType) -> Option<Action> {
    match machine {
        EM_X86_64 => x86_64(kind),
        EM_AARCH64 => aarch64(kind),
        // No relocation is number zero everywhere.
        _ if kind.0 == 0 => Some(Action::Nothing),
        _ => Some(Action::Unknown),
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
