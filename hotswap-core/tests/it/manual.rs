//! What the manual quotes is what is said, and what it names is there.

use std::{fs, path::Path};

/// Every message in the first column of a table with that head stands in the sources, or is held by a test, word by
/// word; `…` stands for anything.
#[test]
fn quoted_messages_are_said() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let said: Vec<String> = ["src", "elf/src", "tests/it", "../hotswap-demo/tests/it"]
        .iter()
        .flat_map(|folder| sources(&root.join(folder)))
        .map(|file| plain(&fs::read_to_string(file).unwrap()))
        .collect();
    let mut quoted = 0;
    for page in fs::read_dir(root.join("docs")).unwrap() {
        let page = page.unwrap().path();
        if page.extension().is_none_or(|it| it != "md") {
            continue;
        }
        for message in messages(&fs::read_to_string(&page).unwrap()) {
            for part in without_stage(&message).split('…') {
                let part = plain(part);
                let part = part.trim_matches([' ', ':', ';', ',']);
                assert!(
                    said.iter().any(|file| file.contains(part)),
                    "{}: nothing says `{part}` of `{message}`",
                    page.display()
                );
            }
            quoted += 1;
        }
    }
    assert!(quoted > 20, "only {quoted} found");
}

/// The files, scripts and functions that these pages name are there: files below the top, the library's folder or its
/// sources; functions by a table's columns `file` and `function`.
#[test]
fn what_pages_for_contributors_name_is_there() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = core.parent().unwrap();
    let find = |name: &str| {
        let places = [top.join(name), core.join(name), core.join("src").join(name)];
        places.into_iter().find(|place| place.exists())
    };
    let (mut files, mut functions) = (0, 0);
    for name in [
        "CONTRIBUTING.md",
        "SECURITY.md",
        "hotswap-core/docs/architecture.md",
        "hotswap-core/docs/testing.md",
    ] {
        let page = fs::read_to_string(top.join(name)).unwrap();
        for quoted in page.split('`').skip(1).step_by(2) {
            let is_file = quoted.starts_with("scripts/") || quoted.ends_with(".rs");
            let file = quoted.split(' ').next().unwrap_or_default();
            if is_file || quoted.ends_with('/') || quoted.ends_with(".md") {
                assert!(find(file).is_some(), "{name}: there is no `{file}`");
                files += 1;
            }
        }
        for row in rows(&page, ["file", "function"]) {
            let [file, function] = row.map(|cell| cell.trim_matches('`'));
            let code = fs::read_to_string(find(file).unwrap()).unwrap();
            let (_, own_name) = function.rsplit_once("::").unwrap_or(("", function));
            assert!(
                ["(", "<"]
                    .iter()
                    .any(|it| code.contains(&format!("fn {own_name}{it}"))),
                "{name}: {file} has no function `{own_name}`"
            );
            functions += 1;
        }
    }
    assert!(
        files > 100 && functions > 30,
        "only {files} files and {functions} functions found"
    );
}

/// The cells below these heads, of each table that has both.
fn rows<'a>(page: &'a str, heads: [&str; 2]) -> Vec<[&'a str; 2]> {
    let mut columns = None;
    let mut rows = Vec::new();
    for line in page.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if !line.starts_with('|') {
            columns = None;
        } else if let Some(columns) = columns {
            rows.push(<[usize; 2]>::map(columns, |column| cells[column]));
        } else {
            let found = heads.map(|head| cells.iter().position(|cell| *cell == head));
            columns = found[0].zip(found[1]).map(|(one, other)| [one, other]);
        }
    }
    rows.retain(|row| !row[0].starts_with('-'));
    rows
}

/// The first cells below a head `| message |` or the second below `| … | refusal |`, without their code marks.
fn messages(page: &str) -> Vec<String> {
    let mut column = None;
    let mut found = Vec::new();
    for line in page.lines() {
        let cells: Vec<&str> = line
            .split(" | ")
            .map(|cell| cell.trim_matches(['|', ' ']))
            .collect();
        if !line.starts_with('|') {
            column = None;
        } else if let Some(head) = cells
            .iter()
            .position(|cell| ["message", "refusal"].contains(cell))
        {
            column = Some(head);
        } else if let Some(cell) = column.and_then(|column| cells.get(column))
            && cell.starts_with('`')
        {
            found.push(cell.trim_matches(['`', ' ']).to_owned());
        }
    }
    found
}

/// The stage is put before a message where it is printed.
fn without_stage(message: &str) -> &str {
    match message.split_once(": ") {
        Some((stage, rest)) if STAGES.contains(&stage) => rest,
        _ => message,
    }
}

const STAGES: [&str; 14] = [
    "open",
    "trust",
    "copy",
    "inspect",
    "trial",
    "link",
    "header",
    "symbol",
    "version",
    "layout",
    "root module",
    "probe",
    "unload",
    "host",
];

/// Without what differs between a text, its source and a page: code marks, escapes, and line breaks.
fn plain(text: &str) -> String {
    let text = text.replace(['`', '\\'], "");
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else {
            files.push(path);
        }
    }
    files
}
