//! From lines of standard input to what they ask for.

use std::{
    ffi::OsStr,
    io::{self, BufRead, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    thread,
};

use crossbeam_channel::{Receiver, bounded};
use percent_encoding::percent_decode;

/// What `:help` says.
pub(crate) const HELP: &str = "help: PATH replaces the plugin; :reload takes the last accepted path again; \
     :rollback puts the plugin before back; :versions lists the generations; :quit ends; a path that begins with `:` is given as `./:x`";

/// Longer than any path (`PATH_MAX` is 4,096), so that input without line ends does not fill the memory.
const LINE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Nothing,
    Swap(PathBuf),
    Reload,
    Rollback,
    Versions,
    Help,
    Quit,
    /// Not understood; what to say.
    Unknown(String),
}

/// Reads standard input until it ends, on a thread that is never joined: it may wait for ever.
pub(crate) fn from_stdin() -> io::Result<Receiver<Request>> {
    let (requests, received) = bounded(1);
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut input = io::stdin().lock();
            while let Some(request) = next(&mut input) {
                if requests.send(request).is_err() {
                    return;
                }
            }
        })?;
    Ok(received)
}

/// The next line's request. An input that cannot be read has ended.
fn next(input: &mut impl BufRead) -> Option<Request> {
    let mut line = Vec::new();
    input
        .by_ref()
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut line)
        .ok()?;
    if line.is_empty() {
        return None;
    }
    if line.len() as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
        input.skip_until(b'\n').ok()?;
        return Some(Request::Unknown(format!(
            "unknown line: longer than {LINE_BYTES_MAX} bytes"
        )));
    }
    Some(parse(line.strip_suffix(b"\n").unwrap_or(&line)))
}

fn parse(line: &[u8]) -> Request {
    match line.trim_ascii() {
        b"" => Request::Nothing,
        b":reload" => Request::Reload,
        b":rollback" => Request::Rollback,
        b":versions" => Request::Versions,
        b":help" => Request::Help,
        b":quit" => Request::Quit,
        command if command.starts_with(b":") => Request::Unknown(format!(
            "unknown command {}; :help lists them",
            command.escape_ascii()
        )),
        _ => Request::Swap(path(line)),
    }
}

/// The path that is meant: as it stands if it exists, else without what a terminal or a file manager adds when a file
/// is dropped or pasted.
fn path(line: &[u8]) -> PathBuf {
    let trimmed = line.trim_ascii();
    let unquoted = [b'"', b'\''].iter().find_map(|quote| {
        let inner = trimmed.strip_prefix(&[*quote])?.strip_suffix(&[*quote])?;
        (!inner.is_empty()).then_some(inner)
    });
    let of_url = |it: &[u8]| {
        let path = it.strip_prefix(b"file://")?;
        // Where the host stands. It may be left out.
        let local = path.strip_prefix(b"localhost");
        let path = local.filter(|it| it.starts_with(b"/")).unwrap_or(path);
        Some(percent_decode(path).collect())
    };
    let as_given = [line, line.strip_suffix(b"\r").unwrap_or(line), trimmed];
    let candidates = as_given.into_iter().chain(unquoted).map(<[u8]>::to_vec);
    // Quoted or escaped as for a shell.
    let as_word = shlex::bytes::split(trimmed).and_then(|words| match <[_; 1]>::try_from(words) {
        Ok([word]) => Some(word),
        Err(_) => None,
    });
    let decoded = [of_url(trimmed), unquoted.and_then(of_url), as_word];
    let as_path = |bytes: &[u8]| Path::new(OsStr::from_bytes(bytes)).to_owned();
    candidates
        .chain(decoded.into_iter().flatten())
        .map(|bytes| as_path(&bytes))
        .find(|path| path.symlink_metadata().is_ok())
        .unwrap_or_else(|| as_path(trimmed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &[u8], expected: Request) {
        assert_eq!(parse(line), expected);
    }

    #[track_caller]
    fn check_path(line: &[u8], expected: &str) {
        check(line, Request::Swap(expected.into()));
    }

    #[test]
    fn commands() {
        check(b":reload", Request::Reload);
        check(b"  :versions \r", Request::Versions);
        check(b":rollback", Request::Rollback);
        check(b":help", Request::Help);
        check(b":quit", Request::Quit);
        check(
            b":what\x1b",
            Request::Unknown(r"unknown command :what\x1b; :help lists them".to_owned()),
        );
        check_path(b"./:x", "./:x");
    }

    #[test]
    fn blank_lines_ask_for_nothing() {
        check(b"", Request::Nothing);
        check(b" \t\r", Request::Nothing);
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
        check(
            b"/no/\xff",
            Request::Swap(OsStr::from_bytes(b"/no/\xff").into()),
        );
    }

    #[test]
    fn lines_are_read_to_the_end_of_the_input() {
        let mut input = &b":quit\n\n/no/such"[..];
        assert_eq!(next(&mut input), Some(Request::Quit));
        assert_eq!(next(&mut input), Some(Request::Nothing));
        assert_eq!(next(&mut input), Some(Request::Swap("/no/such".into())));
        assert_eq!(next(&mut input), None);
    }

    #[test]
    fn a_line_without_end_is_one_error() {
        let mut input = vec![b'x'; 3 * LINE_BYTES_MAX as usize];
        input.extend(b"\n:quit\n");
        let mut input = &input[..];
        let problem = "unknown line: longer than 65536 bytes".to_owned();
        assert_eq!(next(&mut input), Some(Request::Unknown(problem)));
        assert_eq!(next(&mut input), Some(Request::Quit));
    }
}
