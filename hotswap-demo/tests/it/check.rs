//! `--check`: the answer without the service.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use hotswap_core::Sha256;

use crate::{
    demo::{BINARY, plugin},
    examples::example,
};

fn check(path: &Path) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(BINARY)
        .args(["--any-owner", "--check"])
        .arg(path)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_good_plugin_is_described() {
    let path = plugin("shipped");
    let (code, out, err) = check(&path);
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    let bytes = fs::read(&path).unwrap();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], format!("would be accepted: {}", path.display()));
    let value = |name: &str| {
        let line = lines
            .iter()
            .find_map(|line| line.trim_start().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{out}"))
            .trim_start()
            .to_owned()
    };
    assert_eq!(value("bytes"), bytes.len().to_string());
    assert_eq!(value("sha256"), Sha256::of(&bytes).to_string());
    assert_eq!(value("package"), "hotswap-demo-fixtures 0.1.0");
    assert_eq!(value("interface"), "hotswap-types::Plugin 0.1.0");
    assert!(value("needs").contains("libc.so.6 (/"), "{out}");
    assert_eq!(value("nodelete"), "no");
    assert_eq!(value("unique"), "no");
    assert_eq!(value("static TLS"), "no");
    assert_eq!(value("leaves"), "nothing");
    assert_eq!(value("unloadable"), "version 2");
    assert_eq!(value("update"), "not run here");
    assert_eq!(value("unloading"), "left again");
    assert_eq!(
        value("left out"),
        format!("its update, which a host with services runs (Settings::services); {LEFT_OUT}")
    );
}

/// Of every plugin.
const LEFT_OUT: &str = "the configuration that a host has (Candidate::with_config), here the empty one; \
                        the services that a host offers (Settings::host_services), here those of the trial; \
                        the probe of a host (Settings::probe); whether a host has room (Limits::retired_images_max, \
                        memory, static TLS)";

#[test]
fn what_a_check_leaves_out_is_said() {
    let (code, out, _) = check(&plugin("other"));
    assert_eq!(code, Some(0));
    assert!(out.contains("\n  update     none\n"), "{out}");
    let end = format!("\n  left out   {LEFT_OUT}\n");
    assert!(out.ends_with(&end), "{out}");
}

/// A host without services does not look at it.
#[test]
fn an_update_that_no_host_can_run_is_said() {
    let (code, out, _) = check(&plugin("update_of_another_type"));
    assert_eq!(code, Some(0));
    let begin =
        "\n  update     a host with services refuses it: layout: `update`: expected UpdateFn(";
    assert!(out.contains(begin), "{out}");
    assert!(!out.contains("its update, which"), "{out}");
}

/// Marks by which the system would keep it, as the file has them, and what becomes of them.
#[test]
fn a_mark_that_is_cleared_in_the_copy_is_said() {
    const DT_FLAGS_1: u64 = 0x6fff_fffb;
    const DF_1_NODELETE: u8 = 0x08;
    let mut bytes = fs::read(plugin("shipped")).unwrap();
    let entry = DT_FLAGS_1.to_le_bytes();
    let mut places = (0..bytes.len() - 16).step_by(8);
    let place = places.find(|&at| bytes[at..at + 8] == entry).unwrap();
    bytes[place + 8] |= DF_1_NODELETE;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodelete.so");
    fs::write(&path, &bytes).unwrap();
    let (code, out, err) = check(&path);
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    for line in [
        "nodelete   yes, cleared in the copy".to_owned(),
        format!("sha256     {}", Sha256::of(&bytes)),
        "unloading  left again".to_owned(),
    ] {
        assert!(
            out.lines().any(|it| it.trim_start() == line),
            "{line}: {out}"
        );
    }
}

/// Where the environment leads to, before the system's folders.
#[test]
fn each_library_is_listed_with_where_it_was_found() {
    let path = plugin("shipped");
    let (_, out, _) = check(&path);
    let needs = out
        .lines()
        .find(|line| line.trim_start().starts_with("needs"));
    let needs = needs.unwrap().trim_start().trim_start_matches("needs");
    let mut libraries = needs.split(", ").map(str::trim);
    let found = libraries.find_map(|it| it.strip_prefix("libgcc_s.so.1 (")?.strip_suffix(')'));
    let found = found.unwrap_or_else(|| panic!("{out}"));
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("libgcc_s.so.1");
    fs::copy(found, &copy).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["--any-owner", "--check"]).arg(&path);
    let output = command.env("LD_LIBRARY_PATH", folder.path()).output();
    let out = String::from_utf8(output.unwrap().stdout).unwrap();
    let expected = format!("libgcc_s.so.1 ({})", copy.display());
    assert!(out.contains(&expected), "{expected}: {out}");
}

#[test]
fn what_will_not_leave_is_said() {
    let (code, out, _) = check(&plugin("misbehaving_to_the_end"));
    assert_eq!(code, Some(0));
    let line = "\n  unloading  it needs libc.so.6, which stays mapped or may have threads, and may call it";
    assert!(out.contains(line), "{out}");
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn static_tls_is_said_with_what_helps() {
    let (code, out, _) = check(&plugin("needs_static_tls"));
    assert_eq!(code, Some(0));
    let line = out.lines().find(|line| line.contains("static TLS"));
    let line = line.expect("a line of it").trim_start();
    let bytes = line.strip_prefix("static TLS ").unwrap().split(' ').next();
    assert!(bytes.unwrap().parse::<u64>().unwrap() >= 400, "{line}");
    let end = " bytes, which glibc rarely gives back; GLIBC_TUNABLES=glibc.rtld.optional_static_tls=BYTES in the \
               environment of the host sets how much there is";
    assert!(line.ends_with(end), "{line}");
}

#[test]
fn a_bad_plugin_is_refused_as_in_a_swap() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.so");
    let bytes = fs::read(plugin("shipped")).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let (code, out, err) = check(&path);
    assert_eq!((code, &*out), (Some(1), ""));
    let start = format!("refused {}: inspect: ", path.display());
    assert!(err.starts_with(&start), "{err}");

    let path = plugin("faulty");
    let (code, out, err) = check(&path);
    assert_eq!((code, &*out), (Some(1), ""));
    let start = format!("refused {}: probe: panicked: ", path.display());
    assert!(err.starts_with(&start), "{err}");
}

/// Also for programs, both ways.
#[test]
fn the_answer_has_a_form_for_programs() {
    let check = |path: &Path| {
        let mut command = Command::new(BINARY);
        command.args(["--any-owner", "--check", "--events", "json"]);
        let output = command.arg(path).output().unwrap();
        let says = [output.stdout, output.stderr].concat();
        let object: serde_json::Value = serde_json::from_slice(&says).unwrap();
        (output.status.code(), object)
    };
    let path = plugin("shipped");
    let (code, checked) = check(&path);
    assert_eq!((code, &checked["event"]), (Some(0), &"checked".into()));
    let sha256 = Sha256::of(&fs::read(&path).unwrap()).to_string();
    assert_eq!(checked["sha256"], sha256);
    assert_eq!(checked["path"], path.display().to_string());
    assert_eq!(checked["interface"], "hotswap-types::Plugin 0.1.0");
    assert!(checked["libraries"][0]["path"].is_string(), "{checked}");
    let (code, refused) = check("/no/such.so".as_ref());
    assert_eq!((code, &refused["event"]), (Some(1), &"refused".into()));
    assert_eq!(refused["reason"], "open: no such file");
}

/// What a plugin says of services is for a host that has turned them on, and for the moment before it is published.
#[test]
fn nothing_is_updated_by_a_check() {
    let orders = tempfile::NamedTempFile::new().unwrap();
    fs::write(orders.path(), "update: exit 3 with a word").unwrap();
    let path = plugin("misbehaving");
    let run = |mut command: Command| {
        command.arg("--any-owner").arg(&path);
        command.env("MISBEHAVE", orders.path());
        command.output().unwrap().status.code()
    };
    let mut checking = Command::new(BINARY);
    checking.arg("--check");
    assert_eq!(run(checking), Some(0));
    // There is something that would be seen.
    assert_eq!(run(example("services")), Some(3));
}
