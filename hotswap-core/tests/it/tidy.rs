//! House rules that the compiler does not know.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A file uses only those above it in the list of `lib.rs`.
#[test]
fn files_use_only_files_above_them() {
    for package in [".", "cell", "elf"] {
        check_order(
            &Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(package)
                .join("src"),
        );
    }
}

fn check_order(source: &Path) {
    let lib = fs::read_to_string(source.join("lib.rs")).unwrap();
    let order: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert!(order.len() > 5, "{order:?}");
    let mut uses = 0;
    for (rank, name) in order.iter().enumerate() {
        for file in files_of(source, name) {
            for (used, place) in used_modules(&file) {
                let used_rank = order.iter().position(|it| *it == used);
                let used_rank =
                    used_rank.unwrap_or_else(|| panic!("{place}: no `{used}` in lib.rs"));
                assert!(
                    used_rank <= rank,
                    "{place}: `{name}` uses `{used}`, which is below it"
                );
                uses += usize::from(used_rank < rank);
            }
        }
    }
    assert!(uses > 10, "the search in {source:?} has found only {uses}");
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

/// `NAME.rs`, and what is in `NAME/`.
fn files_of(source: &Path, name: &str) -> Vec<PathBuf> {
    let mut files = vec![source.join(format!("{name}.rs"))];
    let mut folders = vec![source.join(name)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(Result::unwrap)
        {
            let list = if entry.path().is_dir() {
                &mut folders
            } else {
                &mut files
            };
            list.push(entry.path());
        }
    }
    files
}

/// Every `crate::NAME` outside of comments, also in `use crate::{…}`, with its place.
fn used_modules(file: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(file).unwrap();
    let code: Vec<&str> = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let mut used = Vec::new();
    for (index, line) in code.iter().enumerate() {
        let place = format!("{}:{}", file.display(), index + 1);
        for after in line.split("crate::").skip(1) {
            let names: Vec<String> = if let Some((list, _)) = after
                .strip_prefix('{')
                .and_then(|list| list.split_once('}'))
            {
                list.split(',')
                    .map(|name| name_of(name.trim_start()))
                    .collect()
            } else if after.starts_with('{') {
                let body = code[index + 1..]
                    .iter()
                    .take_while(|line| !line.starts_with('}'));
                let top_level =
                    body.filter(|line| line.starts_with("    ") && !line.starts_with("     "));
                top_level
                    .map(|line| name_of(line.trim_start()))
                    .filter(|name| !name.is_empty())
                    .collect()
            } else {
                vec![name_of(after)]
            };
            used.extend(names.into_iter().map(|name| (name, place.clone())));
        }
    }
    used
}

fn name_of(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}
