//! House rules that the compiler does not know.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    slice,
};

/// Types that are public in two crates, and why.
const SHARED_NAMES: [(&str, &str); 1] = [(
    "Lease",
    "a lease on a generation is one on its cell; no program that uses the one names the other",
)];

/// A module uses only modules above it: in `lib.rs` those in the lines before its own, and in a folder those that the
/// folder's file (`stage.rs` of `stage/`) lists before it. An order that holds is also the proof that there are no
/// circles.
///
/// A module may use what the files that it lies in define (`super::Name`): a file and its folder are one module to all
/// others.
#[test]
fn modules_use_only_modules_above_them() {
    let mut uses = 0;
    let mut wrong = BTreeSet::new();
    for source in sources() {
        let modules = modules(&source);
        for (own, module) in &modules {
            for (line, path) in paths_in(&module.code) {
                let used = resolve(&modules, own, &path);
                let common = own.iter().zip(&used).take_while(|(a, b)| a == b).count();
                let (Some(user), Some(used)) = (own.get(common), used.get(common)) else {
                    continue;
                };
                uses += 1;
                let above = &modules[&own[..common]];
                if above.rank(used) > above.rank(user) {
                    wrong.insert(format!(
                        "{}:{line}: `{user}` uses `{used}`, which {} lists after it",
                        module.file.display(),
                        above.file.display(),
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nList the used module before its user (an empty line between keeps rustfmt from sorting them). If each uses \
         the other, move what both need into a module above both.",
        Vec::from_iter(wrong).join("\n")
    );
    assert!(uses > 200, "the search has found only {uses} uses");
}

#[test]
fn the_search_finds_what_is_used() {
    let code = "use crate::{a, b::{c, d::E}};\n\nfn f() { super::super::g::<u8>() }\nstruct S(pub(super) u8);";
    let found: Vec<_> = paths_in(code)
        .map(|(line, path)| (line, path.join("::")))
        .collect();
    let expected = [
        (1, "crate::a"),
        (1, "crate::b::c"),
        (1, "crate::b::d::E"),
        (3, "super::super::g::"),
    ];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
}

/// All calls of the operating system are in `system/`, which has a folder for each platform. Tests may call it
/// anywhere.
#[test]
fn only_system_calls_the_operating_system() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules = modules(&source);
    let mut found = Vec::new();
    for module in modules.values() {
        let file = module.file.strip_prefix(&source).unwrap();
        if file.starts_with("system") || file.ends_with("tests.rs") {
            continue;
        }
        let code = module.code.split("\n#[cfg(test)]\nmod tests {").next();
        if calls_the_system(code.unwrap()) {
            found.push(file);
        }
    }
    assert!(found.is_empty(), "move the calls into `system/`: {found:?}");
}

/// Whether the code names a crate of system calls, what std has for one system (`std::os`) or a file of the kernel, or
/// declares a function of some library.
fn calls_the_system(code: &str) -> bool {
    let names = |name: &str| {
        code.match_indices(name).any(|(at, _)| {
            let (before, after) = (&code[..at], &code[at + name.len()..]);
            let is_word = !before.ends_with(is_of_a_name) && !after.starts_with(is_of_a_name);
            is_word && (after.starts_with("::") || before.ends_with("use "))
        })
    };
    let crates = ["libc", "libloading", "nix", "os", "rustix"];
    let files = ["\"/proc/", "\"/sys/", "\"/dev/"];
    let is_there = |text: &&str| code.contains(*text);
    crates.into_iter().any(names) || files.iter().any(is_there) || is_there(&"extern \"C\" {")
}

#[test]
fn the_search_finds_calls_of_the_system() {
    for code in [
        "fn f() { libc::pause() }",
        "use nix::{unistd};",
        "use libc;",
        "use std::{io, os::fd::OwnedFd};",
        "unsafe extern \"C\" {",
        "File::open(\"/proc/self/maps\")",
    ] {
        assert!(calls_the_system(code), "{code}");
    }
    for code in ["const A: &str = \"libc\";", "unsafe extern \"C\" fn f() {}"] {
        assert!(!calls_the_system(code), "{code}");
    }
}

/// `scripts/real-plugins` builds with `--locked`, and is run by hand: nobody else would notice that its lock file is of
/// an earlier time.
#[test]
fn the_lock_file_of_the_real_plugins_has_what_the_crates_need() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let lock = fs::read_to_string(root.join("scripts/real-plugins.d/Cargo.lock")).unwrap();
    let mut checked = 0;
    for package in lock.split("[[package]]\n") {
        let name = package
            .strip_prefix("name = \"")
            .and_then(|it| Some(it.split_once('"')?.0));
        let Some(folder) = name.and_then(|name| FOLDERS.iter().find(|(it, _)| *it == name)) else {
            continue;
        };
        let manifest = fs::read_to_string(root.join(folder.1).join("Cargo.toml")).unwrap();
        for needed in dependencies(&manifest) {
            let is_locked = |line: &str| {
                let line = line.trim_start_matches([' ', '"']);
                line.strip_prefix(needed)
                    .is_some_and(|rest| rest.starts_with(['"', ' ']))
            };
            assert!(
                package.lines().any(is_locked),
                "{} needs {needed}: cargo update --workspace --manifest-path scripts/real-plugins.d/Cargo.toml",
                folder.0
            );
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} dependencies were found");
}

/// The crates that a plugin or its host is made of.
const FOLDERS: [(&str, &str); 7] = [
    ("hotswap-core", "hotswap-core"),
    ("hotswap-cell", "hotswap-core/cell"),
    ("hotswap-derive", "hotswap-core/derive"),
    ("hotswap-elf", "hotswap-core/elf"),
    ("hotswap-macros", "hotswap-types/macros"),
    ("hotswap-sdk", "hotswap-types/sdk"),
    ("hotswap-unload", "hotswap-types/unload"),
];

/// The names in the section `[dependencies]`, but for optional ones.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let lines = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]");
    let lines = lines.skip(1).take_while(|line| !line.starts_with('['));
    lines
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter(|line| !line.contains("optional = true"))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
}

/// One name, one thing: no two public types of the library's crates have the same name.
#[test]
fn public_types_have_names_of_their_own() {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources() {
        let exported = code_of(&source.join("lib.rs"));
        let mut note = |name: &str, place: &str| {
            let place = format!("{} ({place})", source.display());
            all.entry(name.to_owned()).or_default().push(place);
        };
        for (_, path) in paths_in(&exported) {
            let name = path.last().copied().unwrap_or_default();
            if name.starts_with(char::is_uppercase) {
                note(name, &path.join("::"));
            }
        }
        for module in exported.lines().filter_map(|line| {
            let module = line.strip_prefix("pub mod ")?;
            module.strip_suffix(';')
        }) {
            let code = code_of(&source.join(module).with_extension("rs"));
            for line in code.lines() {
                let defined = ["pub struct ", "pub enum ", "pub trait "];
                let defined = defined.iter().find_map(|it| line.strip_prefix(it));
                let name = defined.and_then(|it| it.split(|c: char| !c.is_alphanumeric()).next());
                name.iter().for_each(|name| note(name, module));
            }
            for list in code.split("pub use ").skip(1) {
                let list = list.split(';').next().unwrap_or_default();
                for (_, path) in paths_in(list) {
                    let name = path.last().copied().unwrap_or_default();
                    note(name, &path.join("::"));
                }
            }
        }
    }
    assert!(all.len() > 50, "the search has found only {}", all.len());
    for (name, places) in &all {
        let is_allowed = SHARED_NAMES.iter().any(|(it, _)| it == name);
        assert!(
            places.len() == 1 || is_allowed,
            "`{name}` is the name of several public types; rename all but one: {places:?}"
        );
        assert!(
            places.len() > 1 || !is_allowed,
            "`{name}` is the name of one public type only; remove it from SHARED_NAMES"
        );
    }
}

/// README lists the scripts, and each says why it is there and what it costs.
#[test]
fn scripts_are_listed_and_say_what_they_cost() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let row = readme
        .lines()
        .find(|line| line.starts_with("| `scripts` |"));
    let mut listed: Vec<&str> = row.unwrap().split('`').skip(3).step_by(2).collect();
    let mut there = Vec::new();
    for entry in fs::read_dir(root.join("scripts"))
        .unwrap()
        .map(Result::unwrap)
    {
        let is_executable = entry.metadata().unwrap().permissions().mode() & 0o111 != 0;
        if entry.path().is_dir() || !is_executable {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap();
        let head = text
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with('#'));
        let head: Vec<&str> = head.collect();
        assert!(
            head.iter()
                .any(|line| line.contains("Costs") || line.contains("costs")),
            "{:?} does not say what it costs",
            entry.path()
        );
        there.push(entry.file_name().into_string().unwrap());
    }
    there.sort();
    listed.sort_unstable();
    assert_eq!(listed, there);
}

/// rustfmt wraps code, and leaves comments as they are. Users edit `hotswap-plugin`: how they wrap is their own affair.
#[test]
fn comments_are_wrapped() {
    const WIDTH: usize = 120;
    let mut long = Vec::new();
    for (path, text) in our_files() {
        let lines = text.lines().zip(1..).filter(|(line, _)| {
            line.trim_start().starts_with("//") && line.chars().count() > WIDTH
        });
        long.extend(lines.map(|(_, number)| format!("{path}:{number}")));
    }
    assert!(
        long.is_empty(),
        "longer than {WIDTH} columns:\n{}",
        long.join("\n")
    );
}

#[test]
fn long_files_are_listed_with_the_reason() {
    const LINES_MAX: usize = 350;
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let of_tests = |path: &str| path.contains("/tests/") || path.ends_with("tests.rs");
    let mut long: Vec<String> = our_files()
        .filter(|(path, text)| {
            let code = text.lines().take_while(|it| *it != "mod tests {");
            !of_tests(path) && code.filter(is_code).count() > LINES_MAX
        })
        .map(|(path, _)| path)
        .collect();
    long.sort_unstable();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("## Long files").expect("the page has it");
    let rows = rest.lines().filter_map(|it| it.strip_prefix("| `"));
    let mut listed: Vec<&str> = rows.map(|it| it.split('`').next().unwrap()).collect();
    listed.sort_unstable();
    assert_eq!(long, listed);
}

/// All files in Rust but those of `hotswap-plugin`, which users edit: the path from the top, and the text.
fn our_files() -> impl Iterator<Item = (String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut open, mut files) = (vec![top.to_owned()], Vec::new());
    while let Some(path) = open.pop() {
        let name = path.file_name().unwrap().to_string_lossy();
        let is_ours = !["target", "hotswap-plugin"].contains(&&*name) && !name.starts_with('.');
        if path.is_dir() && is_ours {
            open.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    let count = files.len();
    assert!(count > 200, "the search has found only {count} files");
    files.into_iter().map(move |path| {
        let from_top = path.strip_prefix(top).unwrap();
        (
            from_top.display().to_string(),
            fs::read_to_string(&path).unwrap(),
        )
    })
}

/// A file, and the modules that it lists.
struct Module {
    file: PathBuf,
    /// Without comments.
    code: String,
    children: Vec<String>,
}

impl Module {
    fn new(file: PathBuf) -> Self {
        let code = code_of(&file);
        let children = code.lines().filter_map(|line| {
            let (visibility, name) = line.strip_suffix(';')?.split_once("mod ")?;
            let is_item = visibility.is_empty() || visibility.starts_with("pub");
            is_item.then(|| name.to_owned())
        });
        let children = children.collect();
        Self {
            file,
            code,
            children,
        }
    }

    fn rank(&self, child: &str) -> usize {
        let rank = self.children.iter().position(|it| it == child);
        rank.unwrap_or_else(|| panic!("{:?} does not list `{child}`", self.file))
    }

    fn is_root(&self) -> bool {
        self.file.ends_with("lib.rs")
    }

    /// The module whose `name` this one gives on.
    fn reexported_from(&self, name: &str) -> Option<&String> {
        let from = paths_in(&self.code).find_map(|(_, path)| match *path {
            ["self", from, .., last] if last == name => Some(from),
            ["crate", from, .., last] if last == name && self.is_root() => Some(from),
            _ => None,
        })?;
        self.children.iter().find(|it| *it == from)
    }
}

/// The sources of the library's crates: of this one, and of those in its folder.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = fs::read_dir(root).unwrap().map(|it| it.unwrap().path());
    let all = beside.chain([root.to_owned()]).map(|it| it.join("src"));
    all.filter(|it| it.join("lib.rs").exists()).collect()
}

/// All modules below `lib.rs`, by their paths.
fn modules(source: &Path) -> BTreeMap<Vec<String>, Module> {
    let mut modules = BTreeMap::new();
    let mut found = vec![(Vec::new(), source.join("lib.rs"))];
    while let Some((path, file)) = found.pop() {
        let module = Module::new(file);
        for child in &module.children {
            let path = [&path[..], slice::from_ref(child)].concat();
            let file = source.join(path.join("/")).with_extension("rs");
            found.push((path, file));
        }
        modules.insert(path, module);
    }
    modules
}

/// The module that `path` leads to when it is used in module `own`. (In a module inside of a file, `super` is taken for
/// that of the file.)
fn resolve(modules: &BTreeMap<Vec<String>, Module>, own: &[String], path: &[&str]) -> Vec<String> {
    let mut at = own.to_vec();
    for &name in path {
        match name {
            "crate" => at.clear(),
            "super" => drop(at.pop()),
            "self" => {}
            name => {
                let child = [&at[..], &[name.to_owned()]].concat();
                if modules.contains_key(&child) {
                    at = child;
                } else {
                    at.extend(modules[&at].reexported_from(name).cloned());
                    break;
                }
            }
        }
    }
    at
}

/// Every path that begins with `crate`, `super` or `self`, with its line, also those in `use crate::{…}`.
fn paths_in(code: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let words = code.match_indices("::").filter_map(|(at, _)| {
        let begin = code[..at]
            .rfind(|c| !is_of_a_name(c))
            .map_or(0, |it| it + 1);
        let is_first = !code[..begin].ends_with("::");
        (is_first && ["crate", "super", "self"].contains(&&code[begin..at])).then_some(begin)
    });
    words.flat_map(|begin| {
        let line = code[..begin].matches('\n').count() + 1;
        paths_of(&code[begin..])
            .into_iter()
            .map(move |path| (line, path))
    })
}

/// The paths at the beginning of `tree`: `a::{b, c::d}` has `a::b` and `a::c::d`.
fn paths_of(tree: &str) -> Vec<Vec<&str>> {
    let name = &tree[..tree.find(|c| !is_of_a_name(c)).unwrap_or(tree.len())];
    let Some(rest) = tree[name.len()..].strip_prefix("::") else {
        return vec![vec![name]];
    };
    let trees = rest.strip_prefix('{').map_or_else(|| vec![rest], items);
    let paths = trees.into_iter().flat_map(paths_of);
    paths.map(|path| [&[name], &path[..]].concat()).collect()
}

/// What is between the commas, up to the brace that ends the list.
fn items(list: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut items) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth < 0 || (c == ',' && depth == 0) {
            items.push(list[begin..at].trim());
            begin = at + 1;
        }
        if depth < 0 {
            break;
        }
    }
    items.retain(|it| !it.is_empty());
    items
}

fn is_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Without comments.
fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(|line| [line, "\n"]).collect()
}
