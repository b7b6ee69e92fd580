//! What the manual quotes is what is said.

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
