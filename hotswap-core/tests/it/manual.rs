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
    for page in sources(&root.join("docs")) {
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

/// What the cookbook shows of files that `scripts/cookbook` builds, runs or checks is in one of those files, line by
/// line. Its examples in Rust are compiled as documentation.
#[test]
fn the_cookbook_shows_what_its_script_tries() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = sources(&core.join("../scripts/cookbook.d"));
    let files: Vec<String> = files
        .iter()
        .map(|it| fs::read_to_string(it).unwrap())
        .collect();
    let mut shown = 0;
    for page in sources(&core.join("docs/cookbook")) {
        let text = fs::read_to_string(&page).unwrap();
        for (language, block) in blocks(&text) {
            let is_of_a_file = ["dockerfile", "ini", "rs", "yaml"].contains(&language);
            assert!(
                !is_of_a_file || files.iter().any(|file| file.contains(&block)),
                "{}: no file of scripts/cookbook.d has\n{block}",
                page.display()
            );
            shown += usize::from(is_of_a_file);
        }
    }
    assert!(shown > 5, "only {shown} found");
}

/// The first page of the cookbook has a link for each heading of the others, and no other links to them.
#[test]
fn the_cookbook_lists_its_questions() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cookbook");
    let read = |page: &str| fs::read_to_string(folder.join(page).with_extension("md")).unwrap();
    let mut links = 0;
    let index = read("index");
    for page in ["code", "develop", "deploy"] {
        let page_text = read(page);
        for question in page_text.lines().filter_map(|it| it.strip_prefix("## ")) {
            let kept = |it: &char| it.is_alphanumeric() || [' ', '-'].contains(it);
            let anchor: String = question.to_lowercase().chars().filter(kept).collect();
            let anchor = anchor.replace(' ', "-");
            let link = format!("- [{question}](crate::docs::cookbook::{page}#{anchor})\n");
            assert!(index.contains(&link), "the index lacks {link}");
            links += 1;
        }
    }
    assert_eq!(index.matches("\n- [").count(), links);
}

/// The blocks of code of a page, each with its language.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let mut lines = page.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let block = lines.by_ref().take_while(|line| *line != "```");
            blocks.push((language, block.flat_map(|line| [line, "\n"]).collect()));
        }
    }
    blocks
}

/// What newcomers type into the search of the documentation is the name of an item, a part of one, or an alias.
///
/// Not seen here: the search does not know the aliases of a type that is public by `pub use` alone (rustdoc 1.95). It
/// knows those of its methods and fields.
#[test]
fn the_search_finds_what_newcomers_ask_for() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names = Vec::new();
    for file in sources(&source) {
        let code = fs::read_to_string(&file).unwrap();
        for (name, aliases) in public_items(&code) {
            names.push((name.clone(), name.clone()));
            names.extend(aliases.into_iter().map(|alias| (alias, name.clone())));
        }
    }
    for (word, item) in SEARCHED {
        let is_found = names
            .iter()
            .any(|(name, of)| of == item && name.to_lowercase().contains(&word.to_lowercase()));
        assert!(is_found, "a search for `{word}` does not find `{item}`");
    }
}

/// The words, and for each the item or page that it has to find; there may be others.
const SEARCHED: [(&str, &str); 47] = [
    ("actix", "code"),
    ("async", "async_hosts"),
    ("axum", "code"),
    ("backtrace", "debugging"),
    ("canary", "canary"),
    ("config", "swap_config"),
    ("core dump", "debugging"),
    ("cross-compile", "deploy"),
    ("database", "code"),
    ("dlclose", "plugins"),
    ("dlopen", "Loader"),
    ("docker", "deploy"),
    ("error type", "code"),
    ("fleet", "fleet"),
    ("gdb", "debugging"),
    ("hot reload", "swap"),
    ("inotify", "watch"),
    ("keep state", "code"),
    ("kubernetes", "deploy"),
    ("lldb", "debugging"),
    ("log", "plugins"),
    ("logging", "plugins"),
    ("metrics", "deploying"),
    ("minisign", "public_key"),
    ("mock", "develop"),
    ("NATS", "fleet"),
    ("panic", "plugins"),
    ("perf", "debugging"),
    ("prometheus", "deploying"),
    ("reload", "swap"),
    ("rollback", "rollback"),
    ("rsync", "deploy"),
    ("scp", "deploy"),
    ("several plugins", "code"),
    ("SIGHUP", "deploy"),
    ("sign", "public_key"),
    ("state", "code"),
    ("systemd", "deploy"),
    ("test", "develop"),
    ("thread_local", "plugins"),
    ("TLS", "plugins"),
    ("tokio", "async_hosts"),
    ("tonic", "code"),
    ("tracing", "plugins"),
    ("tutorial", "tutorial"),
    ("unload", "plugins"),
    ("watch", "watch"),
];

/// Each public item of a file, with its aliases in the documentation.
fn public_items(code: &str) -> Vec<(String, Vec<String>)> {
    let mut items = Vec::new();
    let (mut aliases, mut is_in_list) = (Vec::new(), false);
    for line in code.lines().map(str::trim) {
        is_in_list |= line.starts_with("#[doc(alias(");
        if is_in_list {
            let quoted = line.split('"').skip(1).step_by(2);
            aliases.extend(quoted.map(str::to_owned));
            is_in_list = !line.ends_with(")]");
        } else if let Some(name) = public_name(line) {
            items.push((name.to_owned(), aliases.split_off(0)));
        } else if !line.starts_with("#[") {
            aliases.clear();
        }
    }
    items
}

/// The name of a public item or field that begins in this line.
fn public_name(line: &str) -> Option<&str> {
    let item = line.strip_prefix("pub ")?;
    let item = item.strip_prefix("async ").unwrap_or(item);
    let (kind, name) = item.split_once(' ')?;
    let name = kind.strip_suffix(':').unwrap_or(name);
    name.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
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

const STAGES: [&str; 16] = [
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
    "update",
    "canary",
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
