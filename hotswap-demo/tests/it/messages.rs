//! What the demo says of wrong input, word for word: arguments, files, and lines that are typed.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::demo::{BINARY, Demo, plugin};

const USAGE: &[(&str, &str)] = &[
    ("", "the following required arguments were not provided:"),
    ("a.so b.so", "unexpected argument 'b.so' found"),
    ("--unknown a.so", "unexpected argument '--unknown' found"),
    (
        "--perod 1s a.so",
        "unexpected argument '--perod' found\n\n  tip: a similar argument exists: '--period'",
    ),
    (
        "--trail a.so",
        "unexpected argument '--trail' found\n\n  tip: a similar argument exists: '--trial'",
    ),
    (
        "--period",
        "a value is required for '--period <DURATION>' but none was supplied",
    ),
    (
        "--period 0s a.so",
        "invalid value '0s' for '--period <DURATION>': ticks need some time between them",
    ),
    (
        "--period soon a.so",
        "invalid value 'soon' for '--period <DURATION>': expected a time such as 1s or 250ms",
    ),
    (
        "--drain-deadline 5 a.so",
        "invalid value '5' for '--drain-deadline <DURATION>': expected a time such as 1s or 250ms",
    ),
    (
        "--probation x a.so",
        "invalid value 'x' for '--probation <DURATION>': expected a time such as 1s or 250ms",
    ),
    (
        "--drain-deadline 1000000000000y a.so",
        "invalid value '1000000000000y' for '--drain-deadline <DURATION>': this time is too long",
    ),
    (
        "--trial-deadline 0s a.so",
        "invalid value '0s' for '--trial-deadline <DURATION>': a trial needs some time",
    ),
    (
        "--faults 3 a.so",
        "the following required arguments were not provided:\n  --probation <DURATION>",
    ),
    (
        "--faults many --probation 1s a.so",
        "invalid value 'many' for '--faults <NUMBER>': expected a whole number, such as 3",
    ),
    (
        "--faults 4294967296 --probation 1s a.so",
        "invalid value '4294967296' for '--faults <NUMBER>': this number is too large",
    ),
    (
        "--canary half a.so",
        "invalid value 'half' for '--canary <SHARE>': not a percentage, such as 10%",
    ),
    (
        "--canary 101% a.so",
        "invalid value '101%' for '--canary <SHARE>': not between 0% and 100%",
    ),
    (
        "--canary 10% --watch a.so",
        "the argument '--canary <SHARE>' cannot be used with '--watch'",
    ),
    (
        "--canary 10% --no-stdin a.so",
        "the argument '--canary <SHARE>' cannot be used with '--no-stdin'",
    ),
    (
        "--events xml a.so",
        "invalid value 'xml' for '--events <FORMAT>'\n  [possible values: text, json]",
    ),
    (
        "--root /no/such a.so",
        "invalid value '/no/such' for '--root <DIR>': there is no such folder",
    ),
    (
        "--root /dev/null a.so",
        "invalid value '/dev/null' for '--root <DIR>': not a folder",
    ),
    (
        "--sha256 abc a.so",
        "invalid value 'abc' for '--sha256 <HEX>': a SHA-256 is 64 hexadecimal digits",
    ),
    (
        "--public-key /no/key.pub a.so",
        "invalid value '/no/key.pub' for '--public-key <KEY_OR_FILE>': there is no file /no/key.pub; or a minisign public \
         key is a line of base64, or the text of a .pub file",
    ),
    (
        "--public-key abc a.so",
        "invalid value 'abc' for '--public-key <KEY_OR_FILE>': a minisign public key is a line of base64, or the text of \
         a .pub file",
    ),
    (
        "--public-key / a.so",
        "invalid value '/' for '--public-key <KEY_OR_FILE>': / is not a file",
    ),
    (
        "--public-key /proc/self/mem a.so",
        "invalid value '/proc/self/mem' for '--public-key <KEY_OR_FILE>': it cannot be read: Input/output error (os error \
         5)",
    ),
    (
        "--serial-min 3 a.so",
        "the following required arguments were not provided:\n  --public-key <KEY_OR_FILE>",
    ),
    (
        "--serial-file s a.so",
        "the following required arguments were not provided:\n  --public-key <KEY_OR_FILE>",
    ),
    (
        "--trust-uid root a.so",
        "invalid value 'root' for '--trust-uid <UID>': expected a number, as `id -u NAME` prints it",
    ),
    (
        "--trust-gid staff a.so",
        "invalid value 'staff' for '--trust-gid <GID>': expected a number, as `getent group NAME` prints it",
    ),
    (
        "--trust-uid 4294967296 a.so",
        "invalid value '4294967296' for '--trust-uid <UID>': this number is too large",
    ),
    (
        "--dev --watch",
        "the argument '--dev [<PACKAGE>]' cannot be used with '--watch'",
    ),
    (
        "--dev --check",
        "the argument '--dev [<PACKAGE>]' cannot be used with '--check'",
    ),
    (
        "a.so --release",
        "the argument '[PLUGIN]' cannot be used with '--release'",
    ),
    (
        "a.so -- --locked",
        "the argument '[PLUGIN]' cannot be used with '[CARGO_ARGS]...'",
    ),
];

#[test]
fn wrong_arguments() {
    for (arguments, message) in USAGE {
        let mut demo = Command::new(BINARY);
        let output = demo
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .output();
        let output = output.unwrap();
        let says = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {says}");
        assert!(
            says.starts_with(&format!("error: {message}\n")),
            "{arguments}: {says}"
        );
    }
}

/// Relative to the folder that [`files`] makes.
#[cfg(target_arch = "x86_64")]
const FILES: &[(&str, &str)] = &[
    (
        "empty.so",
        "inspect: not a shared object: the file is empty",
    ),
    ("text.so", "inspect: not a shared object: plain text"),
    (
        "script.so",
        "inspect: not a shared object: a script for /bin/sh",
    ),
    (
        "json.so",
        "inspect: not a shared object: JSON or similar text",
    ),
    (
        "ld.so",
        "inspect: not a shared object: a linker script (text)",
    ),
    ("zip.so", "inspect: not a shared object: a zip archive"),
    (
        "gzip.so",
        "inspect: not a shared object: gzip-compressed data",
    ),
    (
        "archive.so",
        "inspect: not a shared object: a static library (ar archive)",
    ),
    (
        "macos.so",
        "inspect: not a shared object: a Mach-O file (macOS)",
    ),
    (
        "windows.so",
        "inspect: not a shared object: a Windows executable or DLL",
    ),
    (
        "picture.so",
        "inspect: not a shared object: begins with 89 50 4e 47, an ELF file with 7f 45 4c 46",
    ),
    ("four.so", "inspect: truncated: needs 64 bytes, has 4"),
    ("ten.so", "inspect: truncated: needs 64 bytes, has 10"),
    (
        "32-bit.so",
        "inspect: a 32-bit object, this process is 64-bit",
    ),
    (
        "big.so",
        "inspect: a big-endian object, this process is little-endian",
    ),
    ("arm.so", "inspect: for aarch64, this process is x86-64"),
    (
        "program.so",
        "inspect: a position-independent executable, expected a shared object",
    ),
    ("folder", "open: a directory, not a file"),
    ("folder/", "open: a directory, not a file"),
    ("circle.so", "open: the symbolic links lead in a circle"),
    ("nowhere.so", "open: a symbolic link to nowhere"),
    ("pipe.so", "open: a FIFO, not a file"),
    (
        "huge.so",
        "open: 6442450944 bytes are more than the 1073741824 that are accepted",
    ),
    ("missing.so", "open: no such file"),
    ("missing/x.so", "open: no such file"),
    ("/dev/null", "open: a device, not a file"),
    (
        "target/debug/libplugin.so",
        "open: no such file; build it with `cargo build`",
    ),
    (
        "target/release/libplugin.so",
        "open: no such file; build it with `cargo build --release`",
    ),
];

#[cfg(target_arch = "x86_64")]
fn files() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, bytes: &[u8]| fs::write(path(name), bytes).unwrap();
    write("empty.so", b"");
    write("text.so", b"hello\n");
    write("script.so", b"#!/bin/sh\n");
    write("json.so", b"{\"a\": 1}\n");
    write("ld.so", b"GNU ld script\nGROUP ( libc.so.6 )\n");
    write("zip.so", b"PK\x03\x04");
    write("gzip.so", b"\x1f\x8b\x08\0");
    write("archive.so", b"!<arch>\nit");
    write("macos.so", b"\xcf\xfa\xed\xfe");
    write("windows.so", b"MZ\x90\0");
    write("picture.so", b"\x89PNG\r\n\x1a\n");
    let good = fs::read(plugin("shipped")).unwrap();
    write("four.so", &good[..4]);
    write("ten.so", &good[..10]);
    let with = |name: &str, at: usize, byte| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        write(name, &bytes);
    };
    with("32-bit.so", 4, 1);
    with("big.so", 5, 2);
    with("arm.so", 18, 0xb7);
    fs::copy(BINARY, path("program.so")).unwrap();
    fs::create_dir(path("folder")).unwrap();
    symlink("circle.so", path("circle.so")).unwrap();
    symlink("/no/such", path("nowhere.so")).unwrap();
    let made = Command::new("mkfifo")
        .arg(path("pipe.so"))
        .status()
        .unwrap();
    assert!(made.success());
    let huge = fs::File::create(path("huge.so")).unwrap();
    huge.set_len(6 << 30).unwrap();
    folder
}

/// One table for paths that are arguments and for those that are typed: the answer is the same.
#[test]
#[cfg(target_arch = "x86_64")]
fn wrong_files() {
    let folder = files();
    let mut demo = Demo::with("shipped");
    for (name, reason) in FILES {
        let path = folder.path().join(name).display().to_string();
        demo.type_line(&path);
        let (reason, hint) = match reason.split_once("; ") {
            Some((reason, hint)) => (reason, format!("; {hint}")),
            None => (*reason, String::new()),
        };
        let line = demo.says("refused");
        assert_eq!(
            line,
            format!("refused {path}: {reason}; generation 1 stays live{hint}")
        );
        let check = Command::new(BINARY)
            .args(["--any-owner", "--check", &path])
            .output();
        let says = String::from_utf8(check.unwrap().stderr).unwrap();
        assert_eq!(says, format!("refused {path}: {reason}{hint}\n"));
    }
    demo.end_input();
    assert_eq!(demo.ends().0, Some(0));
}

#[test]
fn files_that_anybody_may_have_written() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let file = place.join("a.so");
    fs::copy(plugin("shipped"), &file).unwrap();
    let check = |path: &Path, mode, wrong: &Path, what: &str| {
        let before = wrong.metadata().unwrap().permissions();
        fs::set_permissions(wrong, fs::Permissions::from_mode(mode)).unwrap();
        let output = Command::new(BINARY)
            .arg("--check")
            .arg(path)
            .output()
            .unwrap();
        fs::set_permissions(wrong, before).unwrap();
        let says = String::from_utf8(output.stderr).unwrap();
        let (path, wrong) = (path.display(), wrong.display());
        assert_eq!(says, format!("refused {path}: trust: {wrong} {what}\n"));
    };
    check(
        &file,
        0o666,
        &file,
        "is writable by everybody; `chmod o-w` it",
    );
    check(
        &file,
        0o777,
        &place,
        "is writable by everybody; `chmod o-w` it",
    );
}

const LINES: &[(&str, &str)] = &[
    (":relaod", "unknown command :relaod; did you mean :reload?"),
    (":qiut", "unknown command :qiut; did you mean :quit?"),
    (
        ":version",
        "unknown command :version; did you mean :versions?",
    ),
    (
        ":what now",
        "unknown command :what; :help lists the commands",
    ),
    (":reload now", ":reload has no argument"),
    (":", "unknown command :; :help lists the commands"),
    (
        "reload",
        "refused ./reload: open: no such file; generation 1 stays live; the command is `:reload`",
    ),
    (
        "versions",
        "refused ./versions: open: no such file; generation 1 stays live; the command is `:versions`",
    ),
    (
        "quti",
        "refused ./quti: open: no such file; generation 1 stays live; did you mean `:quit`?",
    ),
    (
        "frobnicate",
        "refused ./frobnicate: open: no such file; generation 1 stays live; `:help` lists the commands",
    ),
    (
        "no-such.so",
        "refused ./no-such.so: open: no such file; generation 1 stays live",
    ),
    (
        "/dev/null/a.so",
        "refused /dev/null/a.so: open: a part of the path is a file, and not a folder; generation 1 stays live",
    ),
    (
        "\"/a.so",
        "refused \\\"/a.so: open: no such file; generation 1 stays live; a quotation mark is left over",
    ),
    (
        "/a.so'",
        "refused /a.so': open: no such file; generation 1 stays live; a quotation mark is left over",
    ),
    (
        "$PWD/a.so",
        "refused $PWD/a.so: open: no such file; generation 1 stays live; variables such as $PWD are not replaced here",
    ),
    (
        "~nobody/a.so",
        "refused ~nobody/a.so: open: no such file; generation 1 stays live; of `~` only `~/` is replaced here",
    ),
    (
        "/no/a\tb.so",
        r"refused /no/a\tb.so: open: no such file; generation 1 stays live",
    ),
    (
        "/no/\u{202e}b.so",
        r"refused /no/\u{202e}b.so: open: no such file; generation 1 stays live",
    ),
    (
        "/no\0/a.so",
        r"refused /no\u{0}/a.so: open: the path contains a NUL byte; generation 1 stays live",
    ),
    (
        ":rollback",
        "no rollback: no plugin before this one is kept; give the path of the one that you want",
    ),
];

#[test]
fn wrong_lines() {
    let mut demo = Demo::with("shipped");
    for (line, answer) in LINES {
        demo.type_line(line);
        let (first, _) = answer.split_once(' ').unwrap();
        let mut says = demo.says(first);
        while &says != answer && first == "no" {
            says = demo.says(first);
        }
        assert_eq!(says, *answer, "{line:?}");
    }
    demo.end_input();
    assert_eq!(demo.ends().0, Some(0));
}

#[test]
fn the_help_has_the_exit_codes_and_three_examples() {
    let output = Command::new(BINARY).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, end) = help.split_once("\nExit codes:\n").expect("exit codes");
    let (codes, examples) = end.split_once("\nExamples:\n").expect("examples");
    let manual = include_str!("../../../hotswap-core/docs/deploying.md");
    for line in codes.lines().map(str::trim) {
        assert!(manual.contains(&format!("\n{line}\n")), "{line}");
    }
    let codes: Vec<_> = codes
        .lines()
        .filter_map(|it| it.split("  ").nth(1))
        .collect();
    assert_eq!(codes, ["0", "1", "2", "130, 143"]);
    assert_eq!(examples.lines().count(), 3);
}
