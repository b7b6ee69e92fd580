//! The hash table by which `dlsym` and every relocation find a symbol.
//!
//! glibc uses the GNU table if there is one, and then ignores the other. It follows chains without counting, so this
//! module checks that each chain ends within its segment.

use std::ops::Range;

use object::elf::{GnuHashHeader, HashHeader, gnu_hash, hash};
use object::{NativeEndian as E, U32, U64};

use crate::{
    dynamic::Dynamic,
    entries::{Table, check_aligned, not_readable},
    memory::Memory,
    refusal::{Refusal, refuse},
};

/// The hash table that the loader would use.
pub(crate) struct Index<'a> {
    kind: Kind<'a>,
    /// The addresses of the table.
    pub(crate) range: Range<u64>,
}

enum Kind<'a> {
    Gnu {
        base: u32,
        bloom: &'a [U64<E>],
        shift: u32,
        buckets: &'a [U32<E>],
        chain: &'a [U32<E>],
    },
    SysV {
        buckets: &'a [U32<E>],
        chain: &'a [U32<E>],
    },
}

impl<'a> Index<'a> {
    pub(crate) fn read(memory: &Memory<'a>, dynamic: &Dynamic<'a>) -> Result<Self, Refusal> {
        match (dynamic.gnu_hash, dynamic.hash) {
            (Some(address), _) => Self::gnu(memory, address),
            (None, Some(address)) => Self::sys_v(memory, address),
            (None, None) => refuse("no symbol hash table (neither DT_GNU_HASH nor DT_HASH)"),
        }
    }

    /// The number of symbols, if this table tells.
    pub(crate) fn count(&self) -> Option<u64> {
        match &self.kind {
            Kind::Gnu { chain: [], .. } => None,
            Kind::Gnu { base, chain, .. } => u64::try_from(chain.len())
                .ok()?
                .checked_add(u64::from(*base)),
            Kind::SysV { chain, .. } => u64::try_from(chain.len()).ok(),
        }
    }

    /// The numbers of the symbols that may have this name, in the order in which the loader tries them.
    pub(crate) fn candidates(&self, name: &[u8]) -> Vec<usize> {
        let numbers = match &self.kind {
            Kind::Gnu {
                base,
                bloom,
                shift,
                buckets,
                chain,
            } => gnu_candidates(name, *base, (bloom, *shift), buckets, chain),
            Kind::SysV { buckets, chain } => sys_v_candidates(name, buckets, chain),
        };
        numbers.unwrap_or_default()
    }

    fn gnu(memory: &Memory<'a>, address: u64) -> Result<Self, Refusal> {
        let what = "symbol hash table (DT_GNU_HASH)";
        check_aligned(what, address, 8)?;
        let Some(header) = memory.item::<GnuHashHeader<E>>(address) else {
            return refuse(not_readable(what, Table { address, bytes: 16 }));
        };
        let (base, shift) = (header.symbol_base.get(E), header.bloom_shift.get(E));
        let (blooms, buckets) = (header.bloom_count.get(E), header.bucket_count.get(E));
        // glibc asserts a power of two, but reads zero as 2³² words.
        if !blooms.is_power_of_two() {
            return refuse(format!(
                "{what}: a filter of {blooms} words, expected a power of two"
            ));
        }
        if buckets == 0 {
            return refuse(format!("{what}: no buckets"));
        }
        // These sums cannot overflow, because the header at `address` could be read.
        let bloom_at = address.saturating_add(16);
        let buckets_at = bloom_at.saturating_add(u64::from(blooms) * 8);
        let chain_at = buckets_at.saturating_add(u64::from(buckets) * 4);
        let bloom = memory.table::<U64<E>>(bloom_at, u64::from(blooms));
        let table = memory.table::<U32<E>>(buckets_at, u64::from(buckets));
        let (Some(bloom), Some(buckets)) = (bloom, table) else {
            let bytes = chain_at.saturating_sub(address);
            return refuse(not_readable(what, Table { address, bytes }));
        };
        let chain = gnu_chain(memory, base, buckets, chain_at)?;
        let end = chain_at.saturating_add(u64::try_from(size_of_val(chain)).unwrap_or(u64::MAX));
        let kind = Kind::Gnu {
            base,
            bloom,
            shift,
            buckets,
            chain,
        };
        Ok(Self {
            kind,
            range: address..end,
        })
    }

    fn sys_v(memory: &Memory<'a>, address: u64) -> Result<Self, Refusal> {
        let what = "symbol hash table (DT_HASH)";
        check_aligned(what, address, 4)?;
        let Some(header) = memory.item::<HashHeader<E>>(address) else {
            return refuse(not_readable(what, Table { address, bytes: 8 }));
        };
        let (buckets, chain) = (
            u64::from(header.bucket_count.get(E)),
            u64::from(header.chain_count.get(E)),
        );
        if buckets == 0 {
            return refuse(format!("{what}: no buckets"));
        }
        let buckets_at = address.saturating_add(8);
        let table = memory.table::<U32<E>>(buckets_at, buckets);
        let links = memory.table::<U32<E>>(buckets_at.saturating_add(buckets * 4), chain);
        let bytes = 8 + (buckets + chain) * 4;
        let (Some(buckets), Some(chain)) = (table, links) else {
            return refuse(not_readable(what, Table { address, bytes }));
        };
        check_links(what, buckets, chain)?;
        let range = address..address.saturating_add(bytes);
        Ok(Self {
            kind: Kind::SysV { buckets, chain },
            range,
        })
    }
}

/// Chains lie one after another, and each ends with an odd word. The chain that begins last therefore ends after all
/// others: if it has an end, all of them have one.
fn gnu_chain<'a>(
    memory: &Memory<'a>,
    base: u32,
    buckets: &[U32<E>],
    chain_at: u64,
) -> Result<&'a [U32<E>], Refusal> {
    let what = "symbol hash table (DT_GNU_HASH)";
    let used = || {
        buckets
            .iter()
            .map(|bucket| bucket.get(E))
            .filter(|bucket| *bucket != 0)
    };
    // No bucket is used: the file exports nothing.
    let (Some(first), Some(last)) = (used().min(), used().max()) else {
        return Ok(&[]);
    };
    if first < base {
        return refuse(format!(
            "{what}: a bucket begins with symbol {first}, the first is {base}"
        ));
    }
    let words = memory
        .table::<U32<E>>(chain_at, memory.readable_from(chain_at) / 4)
        .unwrap_or_default();
    let before = usize::try_from(last.saturating_sub(base)).unwrap_or(usize::MAX);
    let length = words
        .get(before..)
        .and_then(|tail| tail.iter().position(|word| word.get(E) & 1 != 0))
        .and_then(|end| before.checked_add(end)?.checked_add(1));
    match length.and_then(|length| words.get(..length)) {
        Some(chain) => Ok(chain),
        None => refuse(format!(
            "{what}: the chain of symbol {last} has no end in its segment"
        )),
    }
}

/// Refuses chains that leave the table or loop, because the loader follows them until it finds zero.
fn check_links(what: &str, buckets: &[U32<E>], chain: &[U32<E>]) -> Result<(), Refusal> {
    // For each symbol: the walk that first reached it, counted from one.
    let mut seen_by = vec![0u32; chain.len()];
    for (walk, bucket) in (1..=u32::MAX).zip(buckets) {
        let mut number = bucket.get(E);
        while number != 0 {
            let place = usize::try_from(number).unwrap_or(usize::MAX);
            let (Some(seen), Some(next)) = (seen_by.get_mut(place), chain.get(place)) else {
                return refuse(format!(
                    "{what}: a chain leads to symbol {number}, there are {}",
                    chain.len()
                ));
            };
            if *seen == walk {
                return refuse(format!("{what}: a chain goes round at symbol {number}"));
            }
            if *seen != 0 {
                // An earlier walk has followed the chain from here to its end.
                break;
            }
            *seen = walk;
            number = next.get(E);
        }
    }
    Ok(())
}

fn gnu_candidates(
    name: &[u8],
    base: u32,
    (bloom, shift): (&[U64<E>], u32),
    buckets: &[U32<E>],
    chain: &[U32<E>],
) -> Option<Vec<usize>> {
    let wanted = gnu_hash(name);
    let word = usize::try_from(wanted / 64).ok()? & bloom.len().checked_sub(1)?;
    let word = bloom.get(word)?.get(E);
    // The processor takes the shift modulo 32; `wrapping_shr` does the same.
    let bits = [wanted % 64, wanted.wrapping_shr(shift) % 64];
    if bits.iter().any(|bit| word.wrapping_shr(*bit) & 1 == 0) {
        return None;
    }
    let bucket = usize::try_from(wanted).ok()?.checked_rem(buckets.len())?;
    let first = usize::try_from(buckets.get(bucket)?.get(E).checked_sub(base)?).ok()?;
    let mut found = Vec::new();
    for (place, word) in chain.iter().enumerate().skip(first) {
        let word = word.get(E);
        if (word ^ wanted) >> 1 == 0 {
            found.push(place.checked_add(usize::try_from(base).ok()?)?);
        }
        if word & 1 != 0 {
            break;
        }
    }
    Some(found)
}

fn sys_v_candidates(name: &[u8], buckets: &[U32<E>], chain: &[U32<E>]) -> Option<Vec<usize>> {
    let bucket = usize::try_from(hash(name))
        .ok()?
        .checked_rem(buckets.len())?;
    let mut number = usize::try_from(buckets.get(bucket)?.get(E)).ok()?;
    let mut found = Vec::new();
    // `check_links` has shown that the chain ends; this bound is only a precaution.
    while number != 0 && found.len() < chain.len() {
        found.push(number);
        number = usize::try_from(chain.get(number)?.get(E)).ok()?;
    }
    Some(found)
}
