//! Relocations: every write that the loader makes into the image before it runs any of the image's code.
//!
//! The loader checks only the type of a relocation: not where it writes, not which symbol it uses, not the resulting
//! address. A resulting address may lie a little outside the segments (`Loads::is_near`), because compilers add
//! constants to addresses. Nothing tells a wrong address inside the image from a right one. On machines whose
//! relocation types are not known here ([`Action`]), only targets and symbol numbers are checked.

use object::elf::{
    Rela64, SHN_ABS, SHN_UNDEF, STB_LOCAL, STB_WEAK, STT_COMMON, STT_OBJECT, STT_TLS,
};
use object::{NativeEndian as E, U64};

use crate::{
    action::Action,
    calls::{Calls, Written, is_function},
    dynamic::Dynamic,
    entries::{Table, not_readable},
    load::Load,
    memory::Memory,
    process::Process,
    refusal::{Refusal, refuse},
    symbol::Symbol,
    symbols::Symbols,
    tables::Tables,
    targets::Targets,
};

type Relocation = Rela64<E>;

/// Checks every relocation, and tells `calls` what it writes. Returns whether one needs the static TLS block.
pub(crate) fn check(
    memory: &Memory<'_>,
    dynamic: &Dynamic<'_>,
    symbols: &Symbols<'_>,
    tables: &Tables,
    calls: &mut Calls,
    process: Process,
) -> Result<bool, Refusal> {
    let may_write = |load: &&Load| dynamic.text_relocations || load.is_writable();
    let mut checker = Checker {
        memory,
        dynamic,
        symbols,
        tables,
        written_tables: tables.within(memory.loads.iter().filter(may_write)),
        calls,
        process,
        targets: Targets::new(memory),
        static_tls: false,
    };
    checker.check_relr(dynamic.relr)?;
    checker.check_rela("DT_RELA", dynamic.rela, dynamic.relative_count)?;
    checker.check_rela("DT_JMPREL", dynamic.plt, 0)?;
    Ok(checker.static_tls)
}

struct Checker<'w, 'a> {
    memory: &'w Memory<'a>,
    dynamic: &'w Dynamic<'a>,
    symbols: &'w Symbols<'a>,
    tables: &'w Tables,
    /// The tables in segments that relocations may write to: one table, in a file that a linker has made.
    written_tables: Tables,
    calls: &'w mut Calls,
    process: Process,
    targets: Targets,
    static_tls: bool,
}

impl<'w> Checker<'w, '_> {
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
        // `DT_JMPREL` may be the end of `DT_RELA`.
        let shared = match name {
            "DT_RELA" => self.dynamic.plt.range(),
            _ => 0..0,
        };
        let addresses = (table.address..).step_by(size_of::<Relocation>());
        for (number, (entry, address)) in entries.iter().zip(addresses).enumerate() {
            let (action, load) = self.check_one(entry)?;
            if let Some(load) = load.filter(|_| !shared.contains(&address)) {
                self.claim_target(entry.r_offset.get(E), load, action)?;
            }
            if name == "DT_JMPREL" && !action.may_be_lazy() {
                return refuse(format!(
                    "DT_JMPREL has a relocation of type {}",
                    entry.r_type(E, false).0
                ));
            }
            // glibc asserts this: exit(127).
            if number < relative && action != Action::Relative && action != Action::Unknown {
                return refuse(format!(
                    "relocation {number} is among the {relative} relative ones (DT_RELACOUNT), but is not relative"
                ));
            }
        }
        Ok(())
    }

    /// Checks one relocation. Returns what it does, and the load segment that it writes to, if any.
    fn check_one(&mut self, entry: &Relocation) -> Result<(Action, Option<&'w Load>), Refusal> {
        let target = entry.r_offset.get(E);
        let kind = entry.r_type(E, false);
        let Some(action) = Action::of(self.process.machine, kind) else {
            return refuse(format!(
                "relocation at {target:#x} has type {}, which no loader knows",
                kind.0
            ));
        };
        let addend = entry.r_addend.get(E).cast_unsigned();
        // The loader looks up the version of the symbol for every type.
        let symbol = self
            .symbols
            .referenced(self.memory, entry.r_sym(E, false))?;
        if action == Action::Nothing {
            // A relocation that a linker has withdrawn has no addend. With an addend this is probably another table,
            // or this table read from a wrong offset; its real relocations would be missing when code runs.
            if addend != 0 {
                return refuse(format!(
                    "relocation at {target:#x} does nothing, but has an addend ({addend:#x})"
                ));
            }
            return Ok((action, None));
        }
        let is_address = matches!(action, Action::Slot | Action::Address);
        if is_address && symbol.st_type() == STT_TLS {
            return refuse(format!(
                "relocation at {target:#x} takes the address of {}, which is a thread-local",
                self.symbols.name(symbol)
            ));
        }
        // A four-byte address occurs only in code that is relocated.
        if action == Action::Word && !self.dynamic.text_relocations {
            return refuse(format!(
                "relocation at {target:#x} writes four bytes, in a library without text relocations"
            ));
        }
        let written = match action {
            Action::Relative => Written::Here(addend),
            Action::Indirect => self.check_resolver(target, addend)?,
            Action::Address => address_written(entry.r_sym(E, false), symbol, addend),
            Action::Slot if entry.r_sym(E, false) == 0 || !target.is_multiple_of(8) => {
                return refuse(format!(
                    "relocation at {target:#x} is unaligned or for no symbol"
                ));
            }
            Action::Slot => address_written(entry.r_sym(E, false), symbol, addend),
            Action::ThreadLocal | Action::StaticThreadLocal | Action::ThreadLocalPair => {
                self.check_thread_local(target, (entry.r_sym(E, false), symbol), action)?;
                Written::Number
            }
            Action::Copy => {
                return refuse(format!(
                    "relocation at {target:#x} copies a symbol, as only executables do"
                ));
            }
            // The loader assumes that the symbol exists.
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
        let load = self.check_target(target, action.bytes())?;
        if let Written::Here(address) = written {
            self.check_address(target, address)?;
        }
        if action != Action::Unknown {
            self.calls.write(target, action.bytes(), written)?;
        }
        Ok((action, Some(load)))
    }

    fn check_resolver(&self, target: u64, address: u64) -> Result<Written, Refusal> {
        if is_function(self.memory, self.tables, address) {
            return Ok(Written::Elsewhere);
        }
        refuse(format!(
            "relocation at {target:#x} calls {address:#x}, which is not executable code"
        ))
    }

    /// glibc divides by the alignment of the symbol's TLS segment, so the image must have one.
    fn check_thread_local(
        &mut self,
        target: u64,
        (number, symbol): (u32, &Symbol),
        action: Action,
    ) -> Result<(), Refusal> {
        self.static_tls |= action == Action::StaticThreadLocal;
        // A local symbol may name the section instead of the thread-local.
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

    /// Packed relative relocations: an address, then any number of bitmaps, each for the next 63 words.
    fn check_relr(&mut self, table: Table) -> Result<(), Refusal> {
        const WORDS_A_BITMAP: u64 = 63;
        if table.bytes == 0 {
            return Ok(());
        }
        if !self.process.applies_relr {
            return refuse("has packed relocations (DT_RELR), which this system's loader ignores");
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
        let load = self.check_target(target, 8)?;
        self.claim_target(target, load, Action::Relative)?;
        // `claim_target` has checked that the word comes from the file, so the read succeeds.
        let address = self.memory.word_in(load, target).unwrap_or(0);
        self.check_address(target, address)?;
        self.calls.write(target, 8, Written::InPlace)
    }

    fn claim_target(&mut self, target: u64, load: &Load, action: Action) -> Result<(), Refusal> {
        match action {
            Action::Nothing | Action::Unknown => Ok(()),
            _ => self.targets.write(load, target, action.bytes()),
        }
    }

    fn check_address(&self, target: u64, address: u64) -> Result<(), Refusal> {
        if self.memory.loads.is_near(address) {
            return Ok(());
        }
        refuse(format!(
            "relocation at {target:#x} leaves the address {address:#x}, which is outside of the image"
        ))
    }

    /// The loader must be able to write to the target. With text relocations it first makes every segment writable.
    fn check_target(&self, target: u64, bytes: u64) -> Result<&'w Load, Refusal> {
        let load = self.memory.load(target, bytes);
        let load = load.filter(|it| self.dynamic.text_relocations || it.is_writable());
        let Some(load) = load else {
            return refuse(format!(
                "relocation at {target:#x} would write where the image is not writable"
            ));
        };
        if let Some(table) = self.written_tables.at(target, bytes) {
            return refuse(format!(
                "relocation at {target:#x} would write into {table}"
            ));
        }
        Ok(load)
    }
}

fn address_written(number: u32, symbol: &Symbol, addend: u64) -> Written {
    match symbol.st_shndx.get(E) {
        // Symbol number zero stands for the beginning of the image.
        _ if number == 0 => return Written::Here(addend),
        SHN_UNDEF if may_be_imported_function(symbol) && addend == 0 => return Written::Elsewhere,
        SHN_UNDEF => return Written::NotCode,
        // The value is not an address in the image but a number, which a linker script has given a name.
        SHN_ABS => return Written::Number,
        _ => {}
    }
    // Another library's symbol of the same name may win. The address of ours must still be valid.
    Written::Here(symbol.st_value.get(E).wrapping_add(addend))
}

/// Whether the loader finds a function under this name, in another library. A weak symbol may be nowhere, which leaves
/// the address zero.
fn may_be_imported_function(symbol: &Symbol) -> bool {
    symbol.st_bind() != STB_WEAK && !matches!(symbol.st_type(), STT_OBJECT | STT_COMMON | STT_TLS)
}
