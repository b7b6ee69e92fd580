//! From what somebody has typed or pasted to a path.

use std::{
    borrow::Cow,
    env,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use percent_encoding::percent_decode;

use crate::{commands, lines::COMMANDS};

/// The path that is meant: as it stands if it exists, else without what a terminal, a file manager or a shell's
/// completion adds.
pub(crate) fn path(line: &[u8]) -> PathBuf {
    let trimmed = line.trim_ascii();
    let quotes = [b'"', b'\''];
    // Tab leaves the closing quotation mark to be typed.
    let opened = quotes.iter().find_map(|it| trimmed.strip_prefix(&[*it]));
    let unquoted = opened.and_then(|inner| inner.strip_suffix(&trimmed[..1]));
    let unquoted = unquoted.filter(|it| !it.is_empty());
    let of_url = |it: &[u8]| {
        let path = it.strip_prefix(b"file://")?;
        // Where the host stands. It may be left out.
        let local = path.strip_prefix(b"localhost");
        let path = local.filter(|it| it.starts_with(b"/")).unwrap_or(path);
        Some(percent_decode(path).collect())
    };
    let as_given = [line, line.strip_suffix(b"\r").unwrap_or(line), trimmed];
    let candidates = as_given.into_iter().chain(unquoted).chain(opened);
    let candidates = candidates.map(<[u8]>::to_vec);
    // Quoted or escaped as for a shell.
    let as_word = shlex::bytes::split(trimmed).and_then(|words| match <[_; 1]>::try_from(words) {
        Ok([word]) => Some(word),
        Err(_) => None,
    });
    let below_home = as_word.as_deref().or(Some(trimmed)).and_then(of_home);
    let decoded = [
        of_url(trimmed),
        unquoted.and_then(of_url),
        as_word,
        below_home.clone(),
    ];
    let as_path = |bytes: &[u8]| in_a_folder(Path::new(OsStr::from_bytes(bytes)));
    candidates
        .chain(decoded.into_iter().flatten())
        .map(|bytes| as_path(&bytes))
        .find(|path| path.symlink_metadata().is_ok())
        .unwrap_or_else(|| as_path(below_home.as_deref().unwrap_or(trimmed)))
}

/// A bare name is a file of the current folder.
pub(crate) fn in_a_folder(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let is_bare = !bytes.is_empty() && !bytes.contains(&b'/');
    if is_bare {
        Path::new(".").join(path)
    } else {
        path.to_owned()
    }
}

/// `~/x` as a shell has it.
fn of_home(path: &[u8]) -> Option<Vec<u8>> {
    let below = path.strip_prefix(b"~/")?;
    let home = env::var_os("HOME")?;
    Some([home.as_bytes(), b"/", below].concat())
}

/// What to do about a path that leads nowhere. `takes_commands`: where it was given, commands are, too.
pub(crate) fn hint(path: &Path, takes_commands: bool) -> Option<Cow<'static, str>> {
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
    let is_quote = |it: Option<&u8>| it.is_some_and(|it| b"'\"`".contains(it));
    let is_name = takes_commands && !bytes.contains(&b'/') && !bytes.contains(&b'.');
    Some(Cow::Borrowed(
        if path.ends_with("target/debug/libplugin.so") {
            "build it with `cargo build`"
        } else if path.ends_with("target/release/libplugin.so") {
            "build it with `cargo build --release`"
        } else if is_quote(bytes.first()) != is_quote(bytes.last()) {
            "a quotation mark is left over"
        } else if bytes.contains(&b'$') {
            "variables such as $PWD are not replaced here"
        } else if bytes.starts_with(b"~") {
            "of `~` only `~/` is replaced here"
        } else {
            let name = str::from_utf8(bytes).ok().filter(|_| is_name)?;
            let nearest = commands::nearest(&COMMANDS, &format!(":{name}"));
            return Some(match nearest {
                Some(command) if command[1..].eq_ignore_ascii_case(name) => {
                    format!("the command is `{command}`").into()
                }
                Some(command) => format!("did you mean `{command}`?").into(),
                None => "`:help` lists the commands".into(),
            });
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_path(line: &[u8], expected: &str) {
        assert_eq!(path(line), Path::new(expected));
    }

    #[test]
    fn what_pasting_adds_is_forgiven() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it's a plugin.so");
        std::fs::write(&path, "").unwrap();
        let path = path.to_str().unwrap();
        check_path(path.as_bytes(), path);
        check_path(format!("{path}\r").as_bytes(), path);
        check_path(format!("  {path} \t").as_bytes(), path);
        check_path(format!("\"{path}\"\r").as_bytes(), path);
        check_path(format!(" '{path}' ").as_bytes(), path);
        check_path(format!("\"{path}").as_bytes(), path);
    }

    /// What a terminal writes when a file is dropped on it.
    #[test]
    fn words_of_a_shell_are_understood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it's my (new) \\ plugin.so");
        std::fs::write(&path, "").unwrap();
        let path = path.to_str().unwrap();
        let needs_escape = |it: char| " ()'\\".contains(it);
        let escape = |it: char| needs_escape(it).then_some('\\').into_iter().chain([it]);
        let escaped: String = path.chars().flat_map(escape).collect();
        check_path(escaped.as_bytes(), path);
        check_path(format!("{escaped} \r").as_bytes(), path);
        check_path(
            format!("'{}'", path.replace('\'', r"'\''")).as_bytes(),
            path,
        );
        let in_quotes = path.replace('\\', r"\\");
        check_path(format!("\"{in_quotes}\"").as_bytes(), path);
        check_path(br"/no/such\ plugin.so", r"/no/such\ plugin.so");
    }

    /// What file managers copy.
    #[test]
    fn file_urls_are_understood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my 100% \u{e4}.so");
        std::fs::write(&path, "").unwrap();
        let path = path.to_str().unwrap();
        let url = format!("file://{}", path.replace('%', "%25").replace(' ', "%20"));
        check_path(url.as_bytes(), path);
        check_path(
            format!("{}\r", url.replace('\u{e4}', "%C3%a4")).as_bytes(),
            path,
        );
        check_path(format!("'{url}'").as_bytes(), path);
        check_path(url.replace("file://", "file://localhost").as_bytes(), path);
        // A sign that begins no byte stands for itself.
        check_path(
            format!("file://{}", path.replace(' ', "%20")).as_bytes(),
            path,
        );
        check_path(
            b"file:///no/such%20plugin.so",
            "file:///no/such%20plugin.so",
        );
    }

    #[test]
    fn a_path_that_exists_as_it_stands_is_taken_as_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("\"quoted\" \r");
        std::fs::write(&path, "").unwrap();
        let path = path.to_str().unwrap();
        check_path(path.as_bytes(), path);
    }

    #[test]
    fn a_path_that_does_not_exist_is_shown_without_blanks() {
        check_path(b" /no/such \r", "/no/such");
        assert_eq!(path(b"/no/\xff"), OsStr::from_bytes(b"/no/\xff"));
    }

    #[test]
    fn a_bare_name_is_in_the_current_folder() {
        check_path(b"Cargo.toml", "./Cargo.toml");
        check_path(b" 'Cargo.toml'\r", "./Cargo.toml");
        check_path(b"no such", "./no such");
        assert_eq!(in_a_folder(Path::new("")), Path::new(""));
    }

    #[test]
    fn home_is_replaced() {
        let home = env::var("HOME").unwrap();
        check_path(b"~/no/such.so", &format!("{home}/no/such.so"));
        check_path(br"~/no\ such.so ", &format!("{home}/no such.so"));
        check_path(b"~root/x.so", "~root/x.so");
        check_path(b"/a/~/b", "/a/~/b");
    }

    #[test]
    fn what_leads_nowhere_has_a_hint() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(hint(path.as_ref(), true).as_deref(), expected, "{path}");
        };
        check(
            "a/target/debug/libplugin.so",
            Some("build it with `cargo build`"),
        );
        check(
            "target/release/libplugin.so",
            Some("build it with `cargo build --release`"),
        );
        check("\"a/b.so", Some("a quotation mark is left over"));
        check("a/b.so'", Some("a quotation mark is left over"));
        check(
            "$PWD/b.so",
            Some("variables such as $PWD are not replaced here"),
        );
        check("~root/b.so", Some("of `~` only `~/` is replaced here"));
        check("a/b.so", None);
        check("./a.so", None);
        check("./reload", Some("the command is `:reload`"));
        check("./Reload", Some("the command is `:reload`"));
        check("./quti", Some("did you mean `:quit`?"));
        check("./hlep", Some("did you mean `:help`?"));
        check("./?", Some("`:help` lists the commands"));
        check("./--help", Some("did you mean `:help`?"));
        check("./help me", Some("`:help` lists the commands"));
        check("./plugin", Some("`:help` lists the commands"));
        check("./'a'", Some("`:help` lists the commands"));
        check("./quti.so", None);
        assert_eq!(hint("./quti".as_ref(), false), None);
        check("./\"b.so", Some("a quotation mark is left over"));
    }
}
