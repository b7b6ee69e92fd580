//! Clears the marks in a file because of which the system keeps an image mapped for good.
//!
//! Only for a plugin with `unloadable!`: its author says that it may be unmapped, and its host knows when. A file
//! without `unloadable!` is copied unchanged.

use hotswap_elf::{Change, Facts};

/// The marks that the file has and its copy has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cleared {
    /// `DF_1_NODELETE`.
    pub(crate) nodelete: bool,
    /// `STB_GNU_UNIQUE` symbols, which are weak in the copy.
    pub(crate) unique_symbols: bool,
}

/// The libraries that a plugin with unique symbols may need: the beginnings of their file names.
const RUNTIME: [&str; 8] = [
    "libc.so",
    "libm.so",
    "libdl.so",
    "librt.so",
    "libpthread.so",
    "libgcc_s.so",
    CPP_LIBRARY,
    // `ld-linux-x86-64.so.2`, `ld-linux-aarch64.so.1`.
    "ld-linux",
];
const CPP_LIBRARY: &str = "libstdc++.so";

/// Finds the changes to make, and adapts `facts` to the changed file.
pub(super) fn clear(facts: &mut Facts) -> (Vec<Change>, Cleared) {
    let (mut changes, mut cleared) = (Vec::new(), Cleared::default());
    if !facts.has_marker {
        return (changes, cleared);
    }
    if facts.nodelete {
        changes.append(&mut facts.without_nodelete);
        facts.nodelete = false;
        cleared.nodelete = true;
    }
    if facts.unique_symbols && may_be_weak(facts) {
        changes.append(&mut facts.without_unique);
        facts.unique_symbols = false;
        cleared.unique_symbols = true;
    }
    (changes, cleared)
}

/// Whether the file's unique symbols can be made weak without harm.
///
/// g++ makes the inline statics of C++ unique: static members of templates, `inline` variables, and the statics in
/// inline functions. clang makes the same things weak, and the programs that it builds work. The dynamic linker keeps
/// one unique symbol of a name in the whole process, even across libraries that were opened with RTLD_LOCAL; because
/// it cannot know who uses it, it never unmaps the image that defines it. With a weak symbol, each image that was
/// opened by itself uses its own, as with every static of Rust. Two generations of a plugin should do just that.
///
/// It would be wrong if another library has the same static and relies on there being one: a library that an earlier
/// generation has brought in keeps using that generation's static, and the new generation uses its own. So the plugin
/// may need no libraries except those of the C and C++ runtime. Of these, libstdc++ has unique symbols itself, all of
/// them statics of classes in namespace `std` (`std::ctype<char>::id`; GCC 12, 2026-11); a plugin that defines such a
/// symbol too keeps its unique symbols. Libraries that the plugin does not need, and so cannot rely on, do not
/// matter.
fn may_be_weak(facts: &Facts) -> bool {
    let is_runtime = |name: &str| RUNTIME.iter().any(|it| name.starts_with(it));
    let needs_cpp = facts.libraries().any(|name| name.starts_with(CPP_LIBRARY));
    facts.libraries().all(is_runtime) && !(needs_cpp && facts.unique_in_std)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGE: Change = Change {
        offset: 1,
        from: 0x09,
        to: 0x01,
    };

    fn facts(has_unloadable: bool, needed: &[&str], unique_in_std: bool) -> Facts {
        let mut facts = Facts::default();
        facts.has_marker = has_unloadable;
        facts.needed = needed.iter().map(ToString::to_string).collect();
        facts.nodelete = true;
        facts.without_nodelete = vec![CHANGE];
        facts.unique_symbols = true;
        facts.unique_in_std = unique_in_std;
        facts.without_unique = vec![CHANGE, CHANGE];
        facts
    }

    #[track_caller]
    fn check(mut facts: Facts, nodelete: bool, unique_symbols: bool) {
        let (changes, cleared) = clear(&mut facts);
        let expected = Cleared {
            nodelete,
            unique_symbols,
        };
        assert_eq!(cleared, expected);
        let count = usize::from(nodelete) + 2 * usize::from(unique_symbols);
        assert_eq!(changes, vec![CHANGE; count]);
        assert_eq!(
            (facts.nodelete, facts.unique_symbols),
            (!nodelete, !unique_symbols)
        );
    }

    #[test]
    fn marks_are_cleared_only_with_unloadable_and_beside_the_runtime() {
        let runtime = [
            "libstdc++.so.6",
            "libgcc_s.so.1",
            "libc.so.6",
            "libm.so.6",
            "ld-linux-x86-64.so.2",
        ];
        check(facts(true, &runtime, false), true, true);
        check(facts(false, &runtime, false), false, false);
        check(
            facts(true, &["libc.so.6", "libshared.so"], false),
            true,
            false,
        );
        check(facts(true, &["libc++.so.1"], false), true, false);
        check(facts(true, &runtime, true), true, false);
        // libstdc++ is linked in, so it is not shared.
        check(facts(true, &runtime[1..], true), true, true);
        check(facts(true, &[], false), true, true);
    }
}
