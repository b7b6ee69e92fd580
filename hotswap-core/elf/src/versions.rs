//! Symbol versions: which versions of which libraries the file needs, and which versions it defines.
//!
//! The loader follows both chains by offsets until an offset is zero, twice, and uses the version numbers in them as
//! array indexes. Offsets only lead forward, but chains can be entered from every entry, so the number of steps is
//! bounded here. No sane file reaches the bound.

use std::collections::HashSet;
use std::ops::Range;

use object::NativeEndian as E;
use object::elf::{Verdaux, Verdef, Vernaux, Verneed};

use crate::{
    dynamic::{Dynamic, NAME_BYTES_MAX},
    memory::Memory,
    refusal::{Refusal, excerpt, refuse},
};

/// Version numbers have fifteen bits.
const STEPS_MAX: u32 = 1 << 16;

/// What the version tables say as a whole.
pub(crate) struct Versions {
    /// The highest version number, or zero when there are no versions. The loader then has no array to index.
    pub(crate) highest: u16,
    pub(crate) needed_range: Range<u64>,
    pub(crate) defined_range: Range<u64>,
}

impl Versions {
    pub(crate) fn read(memory: &Memory<'_>, dynamic: &Dynamic<'_>) -> Result<Self, Refusal> {
        let needed = dynamic.needed();
        let mut walk = Walk {
            memory,
            dynamic,
            needed,
            highest: 0,
            steps: 0,
            end: 0,
        };
        let mut ranges = [0..0, 0..0];
        if let Some(address) = dynamic.verneed {
            walk.walk_needed(address)?;
            ranges[0] = address..walk.end;
            walk.end = 0;
        }
        if let Some(address) = dynamic.verdef {
            walk.walk_defined(address)?;
            ranges[1] = address..walk.end;
        }
        if walk.highest != 0 && dynamic.versym.is_none() {
            return refuse("has symbol versions but no table of them (DT_VERSYM)");
        }
        let [needed_range, defined_range] = ranges;
        Ok(Self {
            highest: walk.highest,
            needed_range,
            defined_range,
        })
    }
}

struct Walk<'m, 'a> {
    memory: &'m Memory<'a>,
    dynamic: &'m Dynamic<'a>,
    needed: HashSet<&'a [u8]>,
    highest: u16,
    steps: u32,
    /// The highest end address of the entries read so far.
    end: u64,
}

impl<'a> Walk<'_, 'a> {
    fn walk_needed(&mut self, mut address: u64) -> Result<(), Refusal> {
        loop {
            let entry: &Verneed<E> = self.at("needed version (DT_VERNEED)", address)?;
            if entry.vn_version.get(E) != 1 {
                return refuse(format!(
                    "needed version at {address:#x} of revision {}, expected 1",
                    entry.vn_version.get(E)
                ));
            }
            let file = entry.vn_file.get(E);
            self.check_name(address, file)?;
            let library = self
                .dynamic
                .strings
                .get(u64::from(file), NAME_BYTES_MAX)
                .unwrap_or_default();
            // glibc asserts that it has loaded this library: exit(127).
            if !self.needed.contains(library) {
                return refuse(format!(
                    "needs versions of {}, which is not among the needed libraries",
                    excerpt(library)
                ));
            }
            // It has, but looks for the name as it was before the token was replaced: exit(127), too.
            if has_token(library) {
                return refuse(format!(
                    "needs versions of {}, which the loader cannot find under that name",
                    excerpt(library)
                ));
            }
            self.walk_needed_of_one(ahead(address, entry.vn_aux.get(E))?)?;
            match entry.vn_next.get(E) {
                0 => return Ok(()),
                next => address = ahead(address, next)?,
            }
        }
    }

    fn walk_needed_of_one(&mut self, mut address: u64) -> Result<(), Refusal> {
        loop {
            let entry: &Vernaux<E> = self.at("needed version (DT_VERNEED)", address)?;
            self.check_name(address, entry.vna_name.get(E))?;
            self.highest = self.highest.max(entry.vna_other.get(E).0 & 0x7fff);
            match entry.vna_next.get(E) {
                0 => return Ok(()),
                next => address = ahead(address, next)?,
            }
        }
    }

    fn walk_defined(&mut self, mut address: u64) -> Result<(), Refusal> {
        loop {
            let entry: &Verdef<E> = self.at("defined version (DT_VERDEF)", address)?;
            if entry.vd_version.get(E) != 1 {
                return refuse(format!(
                    "defined version at {address:#x} of revision {}, expected 1",
                    entry.vd_version.get(E)
                ));
            }
            self.highest = self.highest.max(entry.vd_ndx.get(E).0 & 0x7fff);
            let name: &Verdaux<E> = self.at(
                "defined version (DT_VERDEF)",
                ahead(address, entry.vd_aux.get(E))?,
            )?;
            self.check_name(address, name.vda_name.get(E))?;
            match entry.vd_next.get(E) {
                0 => return Ok(()),
                next => address = ahead(address, next)?,
            }
        }
    }

    fn at<T: object::pod::Pod>(&mut self, what: &str, address: u64) -> Result<&'a T, Refusal> {
        self.steps = self.steps.saturating_add(1);
        if self.steps > STEPS_MAX {
            return refuse(format!("more than {STEPS_MAX} symbol versions"));
        }
        match self
            .memory
            .item(address)
            .filter(|_| address.is_multiple_of(4))
        {
            Some(item) => {
                self.end = self.end.max(address.saturating_add(size_of::<T>() as u64));
                Ok(item)
            }
            None => refuse(format!(
                "{what} at {address:#x} is unaligned or not inside a readable, file-backed segment"
            )),
        }
    }

    fn check_name(&self, address: u64, offset: u32) -> Result<(), Refusal> {
        if self.dynamic.strings.has(offset) {
            return Ok(());
        }
        refuse(format!(
            "version at {address:#x} names the string at {offset:#x}, beyond the string table"
        ))
    }
}

/// Whether the loader replaces a part of the name: a dynamic string token, with or without braces.
fn has_token(name: &[u8]) -> bool {
    const TOKENS: [&[u8]; 3] = [b"ORIGIN", b"PLATFORM", b"LIB"];
    let continues = |next: &u8| next.is_ascii_alphanumeric() || *next == b'_';
    name.split(|byte| *byte == b'$').skip(1).any(|after| {
        TOKENS.iter().any(|token| match after.strip_prefix(b"{") {
            Some(braced) => braced
                .strip_prefix(*token)
                .is_some_and(|it| it.starts_with(b"}")),
            None => after
                .strip_prefix(*token)
                .is_some_and(|it| !it.first().is_some_and(continues)),
        })
    })
}

fn ahead(address: u64, offset: u32) -> Result<u64, Refusal> {
    match address.checked_add(u64::from(offset)) {
        Some(next) => Ok(next),
        None => refuse(format!(
            "version at {address:#x} points {offset:#x} bytes ahead, beyond memory"
        )),
    }
}
