//! The folders in which the dynamic linker looks for a library, in its order ([`ld.so(8)`]).
//!
//! [`ld.so(8)`]: https://man7.org/linux/man-pages/man8/ld.so.8.html

use std::{
    collections::HashSet,
    env,
    ffi::{OsStr, OsString},
    iter,
    path::{Component, Path, PathBuf},
    sync::LazyLock,
};

use hotswap_elf::Facts;

use crate::system::{
    proc::{DESCRIPTORS, environment_at_start},
    text,
    users::is_privileged,
};

/// An entry in a list of folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    At {
        path: PathBuf,
        /// Whether the linker expands the entry to another folder: it knows a plugin by the path of its copy, which
        /// gives another `$ORIGIN`.
        is_unknown_to_linker: bool,
    },
    /// Relative to the current folder. An empty entry is the current folder itself.
    Relative(PathBuf),
    /// Where the linker looks and hotswap does not: where `$ORIGIN` leads from the copy, or the part before `$LIB` or
    /// `$PLATFORM`.
    OnlyForLinker(PathBuf),
}

/// An object that needs libraries.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) name: Option<String>,
    rpath: Vec<Folder>,
    /// If it is there, even empty, the `rpath` of the objects above does not count.
    runpath: Option<Vec<Folder>>,
    /// The index of the object that needs it.
    parent: Option<usize>,
    origin: PathBuf,
    /// Whether the linker knows it by the path of its copy.
    is_copy: bool,
}

impl Object {
    /// The plugin. `origin` is the folder of the original file.
    pub(super) fn plugin(facts: &Facts, origin: &Path) -> Self {
        Self::of(None, facts, origin, true, None)
    }

    pub(super) fn library(name: &str, facts: &Facts, origin: &Path, parent: usize) -> Self {
        Self::of(Some(name.to_owned()), facts, origin, false, Some(parent))
    }

    fn of(
        name: Option<String>,
        facts: &Facts,
        origin: &Path,
        is_copy: bool,
        parent: Option<usize>,
    ) -> Self {
        let folders = |list: &String| folders(list.as_ref(), b":", origin, is_copy);
        Self {
            name,
            rpath: facts.rpath.as_ref().map(folders).unwrap_or_default(),
            runpath: facts.runpath.as_ref().map(folders),
            parent,
            origin: origin.to_owned(),
            is_copy,
        }
    }

    /// The folder of a name that is a path, for which the linker does not search.
    pub(super) fn folders_of_path(&self, name: &str) -> Vec<Folder> {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let is_top = folder.is_empty() && name.starts_with('/');
        let folder = if is_top { "/" } else { folder };
        let mut folders = entry_folders(folder.as_bytes(), &self.origin, self.is_copy);
        // The linker does not find such a file beside the plugin, and does not take one by this name.
        folders.retain(|it| {
            !matches!(
                it,
                Folder::At {
                    is_unknown_to_linker: true,
                    ..
                }
            )
        });
        folders
    }
}

/// The folders in which the linker looks for what `objects[needing]` needs, without the system's own folders.
pub(super) fn search_path<'a>(
    objects: &'a [Object],
    needing: usize,
    library_path: &'a [Folder],
) -> impl Iterator<Item = &'a Folder> {
    let runpath = objects[needing].runpath.as_ref();
    let first = runpath.is_none().then_some(needing);
    let with_parents = iter::successors(first, |&object| objects[object].parent);
    let rpaths = with_parents.flat_map(|object| &objects[object].rpath);
    rpaths
        .chain(library_path)
        .chain(runpath.into_iter().flatten())
}

/// The folders of `LD_LIBRARY_PATH`. Like the linker, a host with privileges of its own ignores them.
pub(super) fn library_path() -> Vec<Folder> {
    /// The linker reads the list when the process starts, and ignores later changes. So does this, unless the program
    /// has written a title for `ps` over its environment; then what the linker finds is checked afterwards.
    static LIST: LazyLock<OsString> = LazyLock::new(|| match environment_at_start() {
        Ok(environment) => initial_list(&environment),
        Err(_) => env::var_os(LIBRARY_PATH).unwrap_or_default(),
    });
    if LIST.is_empty() || is_privileged() {
        return Vec::new();
    }
    let program = env::current_exe().unwrap_or_default();
    let origin = program.parent().unwrap_or(Path::new("/"));
    folders(&LIST, b":;", origin, false)
}

const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// The list in an environment, as the system shows it. Like the linker, this takes the last one.
fn initial_list(environment: &[u8]) -> OsString {
    let value = |entry: &[u8]| {
        let rest = entry.strip_prefix(LIBRARY_PATH.as_bytes())?;
        Some(text::from_bytes(rest.strip_prefix(b"=")?))
    };
    let mut entries = environment.rsplit(|&byte| byte == 0);
    entries.find_map(value).unwrap_or_default()
}

/// The system's own folders, and those of most systems' caches. Linkers differ in which of them they know; a folder
/// with no library for this machine is skipped.
pub(super) fn system_folders() -> impl Iterator<Item = PathBuf> {
    let multiarch = format!("{}-linux-gnu", env::consts::ARCH);
    let of_machine = |folder: &str| Path::new(folder).join(&multiarch);
    let first = ["/lib", "/usr/lib"].map(of_machine);
    let local = of_machine("/usr/local/lib");
    let more = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(PathBuf::from);
    let last = ["/usr/local/lib64", "/usr/local/lib"].map(PathBuf::from);
    first.into_iter().chain(more).chain([local]).chain(last)
}

/// The folders of a list. Like the linker, this skips entries that it has had already.
fn folders(list: &OsStr, separators: &[u8], origin: &Path, is_copy: bool) -> Vec<Folder> {
    // An empty list has no entry, not one empty entry.
    if list.is_empty() {
        return Vec::new();
    }
    let entries = list
        .as_encoded_bytes()
        .split(|separator| separators.contains(separator));
    let mut seen = HashSet::new();
    entries
        .filter(|entry| seen.insert(*entry))
        .flat_map(|entry| entry_folders(entry, origin, is_copy))
        .collect()
}

/// The folders that an entry stands for.
fn entry_folders(entry: &[u8], origin: &Path, is_copy: bool) -> Vec<Folder> {
    let path_of = |bytes: &[u8]| PathBuf::from(text::from_bytes(bytes));
    let after_origin = after_origin(entry);
    let below = |origin: &Path, rest: &[u8]| {
        let slashes = rest.iter().take_while(|&&byte| byte == b'/').count();
        if slashes == 0 && !rest.is_empty() {
            // As the linker does it: what follows the token goes on with the name of the folder.
            let origin = origin.as_os_str().as_encoded_bytes();
            return path_of(&[origin, rest].concat());
        }
        origin.join(path_of(&rest[slashes..]))
    };
    // The linker opens the copy of a plugin in the folder of descriptors.
    let (path, by_linker) = match after_origin {
        Some(rest) => (
            below(origin, rest),
            is_copy.then(|| below(Path::new(DESCRIPTORS), rest)),
        ),
        None if entry.starts_with(b"/") => (path_of(entry), None),
        None => return vec![Folder::Relative(path_of(entry))],
    };
    if after_origin.unwrap_or(entry).contains(&b'$') {
        let by_linker = by_linker.unwrap_or(path);
        let is_plain = |part: &Component<'_>| !part.as_os_str().as_encoded_bytes().contains(&b'$');
        let before = by_linker.components().take_while(is_plain);
        return vec![Folder::OnlyForLinker(before.collect())];
    }
    let own = Folder::At {
        path,
        is_unknown_to_linker: by_linker.is_some(),
    };
    let by_linker = by_linker.map(Folder::OnlyForLinker);
    by_linker.into_iter().chain([own]).collect()
}

/// What follows `$ORIGIN` or `${ORIGIN}` at the beginning of an entry. Without braces, the linker takes as much for the
/// token as may belong to a name (`is_dst` in glibc's `elf/dl-load.c`).
fn after_origin(entry: &[u8]) -> Option<&[u8]> {
    let continues = |next: &u8| next.is_ascii_alphanumeric() || *next == b'_';
    let braced = entry.strip_prefix(b"${ORIGIN}");
    braced.or_else(|| {
        let rest = entry.strip_prefix(b"$ORIGIN")?;
        (!rest.first().is_some_and(continues)).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn at(path: &str, is_unknown_to_linker: bool) -> Folder {
        Folder::At {
            path: path.into(),
            is_unknown_to_linker,
        }
    }

    #[test]
    fn an_entry_is_absolute_or_relative_or_only_for_the_linker() {
        let plugin = Path::new("/srv/plugins");
        let linker = |path: &str| Folder::OnlyForLinker(path.into());
        let relative = |path: &str| Folder::Relative(path.into());
        let origin = |path: &str, own: &str| vec![linker(path), at(own, true)];
        for (entry, expected) in [
            ("/opt/lib", vec![at("/opt/lib", false)]),
            ("$ORIGIN", origin("/proc/self/fd/", "/srv/plugins/")),
            ("${ORIGIN}", origin("/proc/self/fd/", "/srv/plugins/")),
            (
                "$ORIGIN/../lib",
                origin("/proc/self/fd/../lib", "/srv/plugins/../lib"),
            ),
            (
                "${ORIGIN}//lib",
                origin("/proc/self/fd/lib", "/srv/plugins/lib"),
            ),
            (
                "$ORIGIN.libs",
                origin("/proc/self/fd.libs", "/srv/plugins.libs"),
            ),
            (
                "${ORIGIN}_libs/a",
                origin("/proc/self/fd_libs/a", "/srv/plugins_libs/a"),
            ),
            ("$ORIGIN_libs", vec![relative("$ORIGIN_libs")]),
            ("", vec![relative("")]),
            (".", vec![relative(".")]),
            ("lib", vec![relative("lib")]),
            ("$ORIGINAL/lib", vec![relative("$ORIGINAL/lib")]),
            ("/usr/$LIB", vec![linker("/usr")]),
            ("/usr/a$LIB/b", vec![linker("/usr")]),
            ("$ORIGIN/../${PLATFORM}", vec![linker("/proc/self/fd/..")]),
        ] {
            let found = entry_folders(entry.as_bytes(), plugin, true);
            assert_eq!(found, expected, "{entry}");
        }
        let own = entry_folders(b"$ORIGIN/lib", Path::new("/opt"), false);
        assert_eq!(own, [at("/opt/lib", false)]);
        assert_eq!(folders("".as_ref(), b":", plugin, true), []);
        let twice = folders("/a:/b:/a".as_ref(), b":", plugin, true);
        assert_eq!(twice, [at("/a", false), at("/b", false)]);
        let list = folders("/a::/b".as_ref(), b":", plugin, true);
        let expected = [
            at("/a", false),
            Folder::Relative(PathBuf::new()),
            at("/b", false),
        ];
        assert_eq!(list, expected);
        let not_text = OsStr::from_bytes(b"/a;/\xff");
        let expected = Folder::At {
            path: OsStr::from_bytes(b"/\xff").into(),
            is_unknown_to_linker: false,
        };
        let list = folders(not_text, b":;", plugin, false);
        assert_eq!(list, [at("/a", false), expected]);
    }

    #[test]
    fn the_last_list_of_an_environment_counts_whatever_its_bytes() {
        let environment =
            b"A=1\0LD_LIBRARY_PATH=/a\0LD_LIBRARY_PATH=/\xff:/b\0LD_LIBRARY_PATHS=/c\0";
        assert_eq!(initial_list(environment).as_bytes(), b"/\xff:/b");
        assert!(initial_list(b"").is_empty());
    }

    #[test]
    fn the_rpath_of_parents_counts_unless_there_is_a_runpath() {
        let facts = |rpath: Option<&str>, runpath: Option<&str>| {
            let mut facts = Facts::default();
            facts.rpath = rpath.map(str::to_owned);
            facts.runpath = runpath.map(str::to_owned);
            facts
        };
        let origin = Path::new("/srv");
        let objects = [
            Object::plugin(&facts(Some("/p"), None), origin),
            Object::library("a", &facts(Some("/a"), None), origin, 0),
            Object::library("b", &facts(None, Some("/b")), origin, 1),
            Object::library("c", &facts(None, None), origin, 2),
        ];
        let library_path = [at("/env", false)];
        let check = |needing, expected: &[Folder]| {
            let found = search_path(&objects, needing, &library_path);
            assert!(found.eq(expected), "{needing}");
        };
        let (p, a, b, env) = (
            at("/p", false),
            at("/a", false),
            at("/b", false),
            at("/env", false),
        );
        check(0, &[p.clone(), env.clone()]);
        check(1, &[a.clone(), p.clone(), env.clone()]);
        check(2, &[env.clone(), b]);
        check(3, &[a, p, env]);
    }
}
