//! Whether a file shares its standard library, or another crate, with others.
//!
//! Such a file cannot be unloaded safely. `unloadable!` does not see what a shared std registers for it
//! (thread-locals, threads, hooks), and the system does not take it back; a crate that outlives the file keeps what
//! it was given of the file's code. When a thread ended after such a file was gone, the host crashed (2026-11).

use hotswap_elf::Facts;

use crate::{error::ErrorKind, escape::excerpt};

/// Refuses a file that takes code from a Rust library.
pub(super) fn check(facts: &Facts) -> Result<(), ErrorKind> {
    let Some(symbol) = &facts.imports_rust else {
        return Ok(());
    };
    Err(ErrorKind::SharesRust {
        library: library(&facts.needed, symbol).map(str::to_owned),
        symbol: excerpt(symbol.as_bytes()),
    })
}

/// The library that probably has the symbol: std, one whose name ends with a hash as Cargo appends it, one with the
/// name of a crate that the symbol mentions, or the only one without a version in its name.
fn library<'a>(needed: &'a [String], symbol: &str) -> Option<&'a str> {
    let crates = || {
        needed.iter().filter_map(|name| {
            let name_of_crate = name.strip_prefix("lib")?.strip_suffix(".so")?;
            Some((name.as_str(), name_of_crate))
        })
    };
    let hashed = |name: &str| name.rsplit_once('-').is_some_and(|(_, hash)| is_hash(hash));
    let mentioned = |name: &str| symbol.contains(&format!("{}{name}", name.len()));
    let std = crates().find(|(_, name)| name.starts_with("std-") && hashed(name));
    let std = std.or_else(|| crates().find(|(_, name)| hashed(name)));
    let found = std.or_else(|| crates().find(|(_, name)| mentioned(name)));
    let only = || crates().next().filter(|_| crates().count() == 1);
    found.or_else(only).map(|(library, _)| library)
}

fn is_hash(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Stage;

    #[track_caller]
    fn refused(needed: &[&str], symbol: &str) -> String {
        let mut facts = Facts::default();
        facts.needed = needed.iter().map(ToString::to_string).collect();
        facts.imports_rust = Some(symbol.to_owned());
        let refusal = check(&facts).unwrap_err();
        assert_eq!(refusal.stage(), Stage::Inspect);
        refusal.to_string()
    }

    #[test]
    fn the_library_is_named_where_it_is_known() {
        let rest =
            "build it without `-C prefer-dynamic`, and without dependencies of crate-type `dylib`";
        let std = [
            "libc.so.6",
            "libdep-00000000000000aa.so",
            "libstd-0123456789abcdef.so",
        ];
        assert_eq!(
            refused(&std, "_RNvC3std"),
            format!(
                "takes Rust code from another library (libstd-0123456789abcdef.so, symbol _RNvC3std): {rest}"
            )
        );
        assert!(refused(&std[..2], "_RNvC3dep").contains("(libdep-00000000000000aa.so, symbol "));
        let plain = ["libz.so", "libdep.so"];
        assert!(refused(&plain, "_RNvCs12_3dep3run").contains("(libdep.so, symbol "));
        assert!(refused(&plain, "_RNvCs12_3std3run").contains("(symbol _RNvCs12_3std3run)"));
        let only = ["libc.so.6", "libdep.so"];
        assert!(refused(&only, "_RNvCs12_3std3run").contains("(libdep.so, symbol "));
        assert!(check(&Facts::default()).is_ok());
    }
}
