//! Which files are taken, by default and with each option. As in hotswap-core's tests, in the system's folder
//! for temporary files.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use hotswap_core::Sha256;
use minisign::KeyPair;
use tempfile::TempDir;

use crate::demo::{Demo, copy_program, plugin};

/// A user and a group that are nobody's.
const STRANGER: u32 = 54_321;

/// A folder that only we can write to, with `plugin.so` in it.
fn place() -> (TempDir, PathBuf) {
    // So that no group can write to what the tests make, whatever the user who runs them prefers.
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let folder = TempDir::new().unwrap();
    let real = folder.path().canonicalize().unwrap();
    fs::copy(plugin("other"), real.join("plugin.so")).unwrap();
    chmod(&real.join("plugin.so"), 0o644);
    (folder, real)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn accepted(options: &[&str], path: &Path) {
    let demo = Demo::start_strictly(options, path);
    let line = demo.says("accepted");
    assert_eq!(line, format!("accepted generation 1: {}", path.display()));
}

#[track_caller]
fn refused(options: &[&str], path: &Path, reason: &str) {
    let (code, err) = Demo::start_strictly(options, path).ends();
    assert_eq!(
        err,
        [format!("refused {}: trust: {reason}", path.display())]
    );
    assert_eq!(code, Some(1));
}

#[track_caller]
fn wrong_usage(options: &[&str], line: &str) {
    let (code, err) = Demo::start_strictly(options, "./plugin.so".as_ref()).ends();
    assert_eq!(err[0], line);
    assert_eq!(code, Some(2));
}

#[test]
fn a_file_that_anybody_can_write_is_refused_until_it_is_repaired() {
    let (_folder, place) = place();
    let path = place.join("plugin.so");
    let mut demo = Demo::start_strictly(&[], &path);
    demo.says("accepted generation 1: ");
    chmod(&path, 0o666);
    demo.type_line(&path);
    let reason = format!(
        "{} is writable by everybody; `chmod o-w` it",
        path.display()
    );
    assert_eq!(
        demo.says("refused"),
        format!(
            "refused {}: trust: {reason}; generation 1 stays live",
            path.display()
        )
    );
    chmod(&path, 0o644);
    demo.type_line(&path);
    demo.says("accepted generation 2: ");
    drop(demo);

    chmod(&path, 0o666);
    refused(&[], &path, &reason);
    accepted(&["--any-owner"], &path);
}

#[test]
fn a_file_must_lie_inside_of_the_root() {
    let (_folder, place) = place();
    fs::create_dir(place.join("root")).unwrap();
    fs::copy(place.join("plugin.so"), place.join("root/plugin.so")).unwrap();
    let root = place.join("root");
    let options = ["--root", root.to_str().unwrap()];
    accepted(&options, &root.join("plugin.so"));
    let path = place.join("plugin.so");
    let reason = format!(
        "{} lies outside of {} (--root)",
        path.display(),
        root.display()
    );
    refused(&options, &path, &reason);
    wrong_usage(
        &["--root", "/no/such"],
        "error: invalid value '/no/such' for '--root <DIR>': there is no such folder",
    );
    wrong_usage(
        &["--root", "/proc/version"],
        "error: invalid value '/proc/version' for '--root <DIR>': not a folder",
    );
}

#[test]
fn links_are_shown_and_may_be_forbidden() {
    let (_folder, place) = place();
    let (path, link) = (place.join("plugin.so"), place.join("current.so"));
    symlink("plugin.so", &link).unwrap();
    let demo = Demo::start_strictly(&[], &link);
    let line = demo.says("accepted");
    assert_eq!(
        line,
        format!(
            "accepted generation 1: {} -> {}",
            link.display(),
            path.display()
        )
    );
    accepted(&["--no-links"], &path);
    let reason = format!(
        "{} is a symbolic link, and none is followed (--no-links)",
        link.display()
    );
    refused(&["--no-links"], &link, &reason);
}

#[test]
fn bytes_can_be_pinned() {
    let (_folder, place) = place();
    let path = place.join("plugin.so");
    let found = Sha256::of(&fs::read(&path).unwrap()).to_string();
    let other = Sha256::of(b"other").to_string();
    accepted(
        &["--sha256", &other, "--sha256", &found.to_uppercase()],
        &path,
    );
    let reason = format!("SHA-256: expected {other}, found {found}");
    refused(&["--sha256", &other], &path, &reason);
    wrong_usage(
        &["--sha256", "abc"],
        "error: invalid value 'abc' for '--sha256 <HEX>': a SHA-256 is 64 hexadecimal digits",
    );
}

#[test]
fn plugins_can_be_signed() {
    let (_folder, place) = place();
    let (path, signature) = (place.join("plugin.so"), place.join("plugin.so.minisig"));
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let (line, file) = (pair.pk.to_base64(), place.join("minisign.pub"));
    fs::write(&file, pair.pk.to_box().unwrap().into_string()).unwrap();
    for key in [&*line, file.to_str().unwrap()] {
        let options = ["--public-key", key];
        let reason = format!("its signature {}: no such file", signature.display());
        refused(&options, &path, &reason);
        let signed = minisign::sign(None, &pair.sk, &fs::read(&path).unwrap()[..], None, None);
        fs::write(&signature, signed.unwrap().into_string()).unwrap();
        accepted(&options, &path);
        fs::remove_file(&signature).unwrap();
    }
    let problem = "a minisign public key is a line of base64, or the text of a .pub file";
    for value in ["abc", "/proc/version"] {
        let line =
            format!("error: invalid value '{value}' for '--public-key <KEY_OR_FILE>': {problem}");
        wrong_usage(&["--public-key", value], &line);
    }
}

#[test]
fn a_signed_plugin_is_not_replaced_by_an_older_one() {
    let (_folder, place) = place();
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let key = pair.pk.to_base64();
    let serial_file = place.join("serial");
    fs::write(&serial_file, "0").unwrap();
    let signed = |name: &str, comment: &str| {
        let path = place.join(name);
        fs::copy(place.join("plugin.so"), &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let signature = minisign::sign(None, &pair.sk, &bytes[..], Some(comment), None).unwrap();
        let beside = place.join(format!("{name}.minisig"));
        fs::write(beside, signature.into_string()).unwrap();
        path
    };
    let new = signed("42.so", "serial=42 expires=2999-01-31T00:00:00Z");
    let old = signed("41.so", "serial=41");
    let options = [
        "--public-key",
        &key,
        "--serial-file",
        serial_file.to_str().unwrap(),
    ];

    // Asking keeps nothing.
    let mut check = Command::new(env!("CARGO_BIN_EXE_hotswap-demo"));
    let output = check
        .args(options)
        .arg("--check")
        .arg(&new)
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("\n  serial     42\n"), "{out}");
    assert!(
        out.contains("\n  expires    2999-01-31T00:00:00Z\n"),
        "{out}"
    );
    assert_eq!(fs::read(&serial_file).unwrap(), b"0");

    let mut demo = Demo::start_strictly(&options, &new);
    demo.says("accepted generation 1: ");
    assert_eq!(fs::read(&serial_file).unwrap(), b"42\n");
    demo.type_line(&old);
    let reason = "trust: its serial number: expected at least 42, found 41 (--serial-file)";
    let line = format!(
        "refused {}: {reason}; generation 1 stays live",
        old.display()
    );
    assert_eq!(demo.says("refused"), line);
    demo.type_line(":versions");
    let line = format!("generation 1 live: {} (serial 42)", new.display());
    assert_eq!(demo.says("generation"), line);
    drop(demo);

    refused(&options, &old, &reason["trust: ".len()..]);
    let options = ["--public-key", &key, "--serial-min", "43"];
    let reason = "its serial number: expected at least 43, found 42 (--serial-min)";
    refused(&options, &new, reason);
    accepted(&["--public-key", &key, "--serial-min", "42"], &new);

    fs::remove_file(&serial_file).unwrap();
    let options = [
        "--public-key",
        &key,
        "--serial-file",
        serial_file.to_str().unwrap(),
    ];
    let its = format!("the highest serial number, in {}", serial_file.display());
    refused(
        &options,
        &new,
        &format!("{its}: no such file; one with `0` in it is a beginning (--serial-file)"),
    );
    wrong_usage(
        &["--serial-min", "1"],
        "error: the following required arguments were not provided:",
    );
}

/// A crash is recorded by the hash of the bytes. The plugin that the demo crashes in is one of hotswap-core's tests.
#[test]
fn what_has_crashed_is_not_taken() {
    let (_folder, place) = place();
    let path = place.join("plugin.so");
    let crashes = place.join("crashes");
    let options = ["--avoid-crashed", crashes.to_str().unwrap()];
    wrong_usage(
        &options,
        &format!(
            "error: invalid value '{}' for '--avoid-crashed <DIR>': there is no such folder",
            crashes.display()
        ),
    );
    fs::create_dir(&crashes).unwrap();
    accepted(&options, &path);
    let record = crashes.join(Sha256::of(&fs::read(&path).unwrap()).to_string());
    fs::write(&record, "hotswap: first\nhotswap: second\n").unwrap();
    let reason = format!(
        "its code has crashed before; remove {} to have it tried again: hotswap: second (--avoid-crashed)",
        record.display()
    );
    refused(&options, &path, &reason);
    fs::remove_file(&record).unwrap();
    accepted(&options, &path);
}

/// As root. Others cannot give files away; there the tests of hotswap-core's `stage::path_policy` have to do.
#[test]
fn other_owners_and_groups_can_be_trusted() {
    let (_folder, place) = place();
    let path = place.join("plugin.so");
    if let Err(error) = chown(&path, Some(STRANGER), Some(STRANGER)) {
        return println!("not tested: {error}");
    }
    let stranger = STRANGER.to_string();
    let reason = format!(
        "{} is owned by uid {STRANGER}, who is not trusted; `chown` it, or trust the owner (--trust-uid)",
        path.display()
    );
    refused(&[], &path, &reason);
    refused(&["--trust-uid", "54322"], &path, &reason);
    accepted(&["--trust-uid", "54322", "--trust-uid", &stranger], &path);

    chmod(&path, 0o664);
    let options = ["--trust-uid", &stranger];
    let reason = format!(
        "{} is writable by group {STRANGER}; `chmod g-w` it, or trust the group (--trust-gid)",
        path.display()
    );
    refused(&options, &path, &reason);
    accepted(&[&options[..], &["--trust-gid", &stranger]].concat(), &path);

    // Who owns the program could replace it.
    chmod(&path, 0o644);
    let program = place.join("demo");
    copy_program(&program);
    chown(&program, Some(STRANGER), None).unwrap();
    Demo::run(Command::new(&program), &[], &path).says("accepted generation 1: ");
}

/// As root, who alone can start programs as others.
#[test]
fn whoever_has_started_a_privileged_host_and_whoever_stands_for_unknown_users_is_not_trusted() {
    const NOBODY: u32 = 65_534;
    let (_folder, place) = place();
    let (path, program) = (place.join("plugin.so"), place.join("demo"));
    copy_program(&program);
    chmod(&place, 0o755);
    let start = |uid| {
        let mut command = Command::new(&program);
        command.uid(uid).gid(uid);
        Demo::run(command, &[], &path)
    };
    let refused = |uid| {
        let (code, err) = start(uid).ends();
        let reason = format!(
            "{} is owned by uid {uid}, who is not trusted; `chown` it, or trust the owner (--trust-uid)",
            path.display()
        );
        let line = format!("refused {}: trust: {reason}", path.display());
        assert_eq!((code, err), (Some(1), vec![line]));
    };
    if let Err(error) = chown(&path, Some(STRANGER), None) {
        return println!("not tested: {error}");
    }
    start(STRANGER).says("accepted generation 1: ");
    // Setgid.
    let mount = rustix::fs::statvfs(&place).unwrap().f_flag;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if mount.contains(rustix::fs::StatVfsMountFlags::NOSUID) || status.contains("NoNewPrivs:\t1") {
        println!("not tested: nothing is setgid here");
    } else {
        chown(&program, None, Some(STRANGER + 1)).unwrap();
        chmod(&program, 0o2755);
        refused(STRANGER);
        // Root could be the author of the host.
        chown(&path, Some(0), None).unwrap();
        start(STRANGER).says("accepted generation 1: ");
        chmod(&program, 0o755);
    }
    chown(&path, Some(NOBODY), None).unwrap();
    refused(NOBODY);
}

#[test]
fn ids_are_numbers() {
    for (option, name, command) in [
        ("--trust-uid", "UID", "id -u NAME"),
        ("--trust-gid", "GID", "getent group NAME"),
    ] {
        wrong_usage(
            &[option, "root"],
            &format!(
                "error: invalid value 'root' for '{option} <{name}>': expected a number, as `{command}` prints it"
            ),
        );
    }
}

/// A command that runs what follows in new namespaces; none where that is not allowed.
fn in_namespaces(options: &[&str]) -> Option<Command> {
    let mut unshare = Command::new("unshare");
    unshare.args(options);
    let mut attempt = Command::new("unshare");
    let attempt = attempt.args(options).arg("true").output();
    if !attempt.is_ok_and(|output| output.status.success()) {
        println!("not tested: no namespaces here");
        return None;
    }
    Some(unshare)
}

/// As root, who can give files away.
#[test]
fn an_owner_whom_the_namespace_does_not_know_is_not_trusted_by_number() {
    let (_folder, place) = place();
    let path = place.join("plugin.so");
    if let Err(error) = chown(&path, Some(STRANGER), Some(STRANGER)) {
        return println!("not tested: {error}");
    }
    let says = |options: &[&str], mode: u32, reason: &str| {
        let Some(mut command) = in_namespaces(&["--user", "--map-root-user"]) else {
            return;
        };
        chmod(&path, mode);
        command.arg(env!("CARGO_BIN_EXE_hotswap-demo"));
        let (code, err) = Demo::run(command, options, &path).ends();
        let line = format!(
            "refused {}: trust: {} {reason}",
            path.display(),
            path.display()
        );
        assert_eq!(err, [line]);
        assert_eq!(code, Some(1));
    };
    let owner = "is owned by uid 65534, which stands for every user whom this user namespace does not know, and is not \
                 trusted even if it is named; map the owner into the namespace, or `chown` it (--trust-uid)";
    says(&[], 0o644, owner);
    says(&["--trust-uid", "65534"], 0o644, owner);

    chown(&path, Some(0), Some(STRANGER)).unwrap();
    let group = "is writable by group 65534, which stands for every group that this user namespace does not know, and is \
                 not trusted even if it is named; map the group into the namespace, or `chmod g-w` it (--trust-gid)";
    says(&[], 0o664, group);
    says(&["--trust-gid", "65534"], 0o664, group);

    // Where all users are known, it is a user like any other.
    chown(&path, Some(65_534), Some(65_534)).unwrap();
    chmod(&path, 0o644);
    accepted(&["--trust-uid", "65534"], &path);
}

/// Whatever else would be said of the file, by what is missing first.
#[test]
fn without_proc_the_refusal_says_so() {
    let (_folder, place) = place();
    let path = place.join("plugin.so");
    let script = r#"mount -t tmpfs none /proc && exec "$@""#;
    for (options, mode) in [
        (&[][..], 0o644),
        (&["--any-owner"], 0o644),
        (&[], 0o664),
        (&["--trial"], 0o644),
        (&["--check"], 0o644),
    ] {
        let namespaces = [
            "--user",
            "--map-root-user",
            "--mount",
            "--propagation",
            "private",
        ];
        let Some(mut command) = in_namespaces(&namespaces) else {
            return;
        };
        chmod(&path, mode);
        command.args(["sh", "-c", script, "sh", env!("CARGO_BIN_EXE_hotswap-demo")]);
        let (code, err) = Demo::run(command, options, &path).ends();
        let [line] = &err[..] else { panic!("{err:?}") };
        let start = format!(
            "refused {}: open: files are opened by way of /proc, which cannot be used: /proc/self/fd/",
            path.display()
        );
        assert!(line.starts_with(&start), "{line}");
        assert!(
            line.ends_with(": No such file or directory (os error 2)"),
            "{line}"
        );
        assert_eq!(code, Some(1));
    }
}

/// There the number that a process has is another one in the `/proc` of the outer namespace, and leads to another
/// process's files.
#[test]
fn in_a_pid_namespace_that_sees_the_outer_proc_the_checked_file_is_loaded() {
    let options = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
    ];
    let Some(mut command) = in_namespaces(&options) else {
        return;
    };
    command.arg(env!("CARGO_BIN_EXE_hotswap-demo"));
    let path = plugin("other");
    let sha256 = Sha256::of(&fs::read(&path).unwrap()).to_string();
    let demo = Demo::run(command, &["--any-owner", "--sha256", &sha256], &path);
    demo.says("accepted generation 1: ");
    drop(demo);
}

#[test]
fn a_folder_that_takes_no_records_of_crashes_is_named_at_the_beginning() {
    // Nobody can make a file there, not even root.
    let options = ["--avoid-crashed", "/proc"];
    let (code, err) = Demo::start(&options, &plugin("shipped")).ends();
    assert_eq!(code, Some(1));
    let line = "Error: no crash can be recorded in /proc (--avoid-crashed): No such file or directory (os error 2)";
    assert_eq!(err, [line]);
}
