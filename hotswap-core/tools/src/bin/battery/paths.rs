//! Unusual paths, and files of other kinds.

use std::{
    error::Error,
    ffi::OsString,
    fs::{self, File},
    os::unix::{
        ffi::OsStringExt,
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{
    cases::{Candidate, Case, Demand, Edit, Fixtures},
    plugin::Plugin,
};

pub(crate) fn cases(fixtures: &Fixtures) -> Result<Vec<Case>, Box<dyn Error>> {
    let mut cases = good(fixtures)?;
    cases.extend(strange_paths(fixtures)?);
    cases.extend(other_kinds(fixtures));
    cases.extend(other_plugins(fixtures));
    Ok(cases)
}

/// Files that must be accepted: the plugins themselves, under any name.
fn good(fixtures: &Fixtures) -> Result<Vec<Case>, Box<dyn Error>> {
    const CATEGORY: &str = "good plugin";
    let mut cases = Vec::new();
    for base in fixtures.bases.iter().chain([&fixtures.good]) {
        let candidate = Candidate::Path(base.path.clone());
        let case = Case::new(
            CATEGORY,
            format!("{} as it is", base.name),
            candidate,
            Demand::Accept,
        );
        cases.push(case.of_build(base.build));
        cases.push(Case::edited(
            CATEGORY,
            "stripped of all that is not loaded",
            base,
            stripped(base),
            Demand::Accept,
        ));
    }
    for (name, build) in [
        ("suffix_field", 3),
        ("panicking", 7),
        ("constructs_plain", 11),
        ("unloadable_unbound", 16),
    ] {
        let candidate = Candidate::Path(fixtures.plugin(name));
        let case = Case::new(
            CATEGORY,
            format!("the plugin {name}"),
            candidate,
            Demand::Accept,
        );
        cases.push(case.of_build(build));
    }

    let folder = fixtures.folder.join("good");
    fs::create_dir(&folder)?;
    let base = &fixtures.bases[0];
    let mut add = |name: &str, path: PathBuf| {
        let case = Case::new(
            CATEGORY,
            format!("{} {name}", base.name),
            Candidate::Path(path),
            Demand::Accept,
        );
        cases.push(case.of_build(base.build));
    };
    // Longer than the system accepts in one call (`PATH_MAX`). hotswap opens the path name by name, so that does not
    // matter.
    let long = format!("{}{}", "/.".repeat(2500), base.path.display());
    add("by a path of 5,000 bytes", long.into());
    for (what, name) in [
        ("with a space in its name", b"a b.so".to_vec()),
        ("with a line break in its name", b"a\nb.so".to_vec()),
        ("with quotes in its name", b"a'b\"c`d.so".to_vec()),
        ("with a name that is no text", b"a\xff\xfe.so".to_vec()),
        ("with a name of 255 bytes", vec![b'x'; 255]),
        ("without an ending", b"plugin".to_vec()),
        ("with a name like an option", b"-rf".to_vec()),
        ("with $ORIGIN in its name", b"$ORIGIN.so".to_vec()),
    ] {
        let path = folder.join(OsString::from_vec(name));
        fs::copy(&base.path, &path)?;
        add(what, path);
    }
    let link = folder.join("link");
    symlink(&base.path, &link)?;
    add("by a link", link.clone());
    let link_to_link = folder.join("link to link");
    symlink(link, &link_to_link)?;
    add("by a link to a link", link_to_link);
    add("by a path with dots", folder.join("../good/./plugin"));
    add(
        "by a path with many slashes",
        PathBuf::from(format!("//{}", folder.join("plugin").display())),
    );
    let read_only = folder.join("read-only");
    fs::copy(&base.path, &read_only)?;
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o400))?;
    add("that may only be read", read_only);
    Ok(cases)
}

/// Removes everything after the last loaded byte, including the section headers.
fn stripped(base: &Plugin) -> Vec<Edit> {
    let end = base
        .loaded()
        .iter()
        .map(|it| it.end)
        .max()
        .expect("something that is loaded");
    vec![
        Edit::Fill(40..48, 0),
        Edit::Fill(60..64, 0),
        Edit::Truncate(end),
    ]
}

fn strange_paths(fixtures: &Fixtures) -> Result<Vec<Case>, Box<dyn Error>> {
    let folder = fixtures.folder.join("paths");
    fs::create_dir(&folder)?;
    let in_folder = |name: &str| folder.join(name);
    symlink("nowhere", in_folder("dangling"))?;
    symlink("loop", in_folder("loop"))?;
    symlink(&folder, in_folder("to a folder"))?;
    mknodat(
        CWD,
        in_folder("fifo"),
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )?;
    symlink("fifo", in_folder("to a fifo"))?;
    drop(UnixListener::bind(in_folder("socket"))?);
    File::create(in_folder("huge"))?.set_len((1 << 30) + 1)?;
    File::create(in_folder("zeros"))?.set_len(64 << 20)?;

    let plugin = &fixtures.bases[0].path;
    let with = |suffix: &[u8]| {
        let mut path = plugin.clone().into_os_string().into_vec();
        path.extend(suffix);
        PathBuf::from(OsString::from_vec(path))
    };
    let mut cases = Vec::new();
    let mut add = |name: &str, path: PathBuf| {
        cases.push(Case::new(
            "path",
            name,
            Candidate::Path(path),
            Demand::Refuse,
        ));
    };
    add("empty", PathBuf::new());
    add("a bare name", "libbuild_2.so".into());
    add("a bare name of a library of the system", "libc.so.6".into());
    add("a dot", ".".into());
    add("the root", "/".into());
    add("with a NUL at the end", with(b"\0"));
    add("with a NUL and more", with(b"\0.so"));
    add("with a slash at the end", with(b"/"));
    add("through a file", with(b"/../libbuild_2.so"));
    add("one that is not there", with(b".no"));
    add("of 5,000 bytes", in_folder(&"./".repeat(2500)));
    add("of 100,000 bytes", in_folder(&"a/".repeat(50_000)));
    add("with a name of 256 bytes", in_folder(&"x".repeat(256)));
    add("a folder", folder.clone());
    for name in [
        "dangling",
        "loop",
        "to a folder",
        "fifo",
        "to a fifo",
        "socket",
        "huge",
        "zeros",
    ] {
        add(&format!("a file: {name}"), in_folder(name));
    }
    for path in [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/tty",
        "/dev/stdin",
        "/dev/stdout",
        "/proc/self/mem",
        "/proc/self/maps",
        "/proc/self/exe",
        "/proc/self/environ",
        "/proc/self/cwd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/999",
        "/proc/self/pagemap",
        "/proc/self/auxv",
        "/proc/version",
        "/proc/kcore",
        "/proc/kmsg",
        "/proc/1/mem",
        "/sys/power/state",
        "/sys/kernel/notes",
        "/etc/passwd",
    ] {
        add(path, path.into());
    }
    Ok(cases)
}

/// Files of other kinds: their first bytes, and more where it matters.
fn other_kinds(fixtures: &Fixtures) -> Vec<Case> {
    const CATEGORY: &str = "kind of file";
    let long = |start: &[u8]| [start, &[0x5a; 8192]].concat();
    let mut cases = Vec::new();
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("one byte", vec![0x7f]),
        ("the magic number alone", b"\x7fELF".to_vec()),
        (
            "the magic number and zeros",
            [&b"\x7fELF"[..], &[0; 8192]].concat(),
        ),
        ("zeros", vec![0; 8192]),
        ("ones", vec![0xff; 8192]),
        ("a text", b"this is no plugin\n".to_vec()),
        ("blanks", b"\n\n   \n".to_vec()),
        (
            "a linker script",
            b"/* GNU ld script */\nINPUT(libc.so.6)\n".to_vec(),
        ),
        ("a script", b"#!/bin/sh\nexit 0\n".to_vec()),
        ("a page", b"<!doctype html><title>404</title>".to_vec()),
        ("JSON", b"{\"error\": \"not found\"}".to_vec()),
        (
            "a git-lfs pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".to_vec(),
        ),
        ("gzip", long(b"\x1f\x8b\x08")),
        ("zstd", long(b"\x28\xb5\x2f\xfd")),
        ("xz", long(b"\xfd7zXZ\0")),
        ("zip", long(b"PK\x03\x04")),
        ("an archive", long(b"!<arch>\n")),
        ("a Rust library", long(b"!<arch>\nlib.rmeta/")),
        ("Mach-O", long(b"\xcf\xfa\xed\xfe")),
        ("a DLL", long(b"MZ\x90\0")),
        ("WebAssembly", long(b"\0asm\x01\0\0\0")),
        ("LLVM bitcode", long(b"BC\xc0\xde")),
        ("Rust metadata", long(b"rust\0\0\0\x09")),
    ] {
        cases.push(Case::new(
            CATEGORY,
            name,
            Candidate::Bytes(bytes),
            Demand::Refuse,
        ));
    }
    let base = &fixtures.bases[0];
    for (name, at, width, value) in [
        ("an object file", 16, 2, 1),
        ("an executable at a fixed address", 16, 2, 2),
        ("a core dump", 16, 2, 4),
        ("32-bit", 4, 1, 1),
        ("big-endian", 5, 1, 2),
        ("for x86", 18, 2, 3),
        ("for arm", 18, 2, 40),
        ("for aarch64", 18, 2, 183),
        ("for riscv", 18, 2, 243),
        ("for FreeBSD", 7, 1, 9),
    ] {
        let edits = vec![Edit::number(at, width, value)];
        cases.push(Case::edited(CATEGORY, name, base, edits, Demand::Refuse));
    }
    // The kind's first bytes, repeated up to the length of a plugin.
    let halves: Vec<u8> = base.bytes[..64]
        .iter()
        .copied()
        .cycle()
        .take(base.bytes.len())
        .collect();
    cases.push(Case::new(
        CATEGORY,
        "file headers all the way",
        Candidate::Bytes(halves),
        Demand::Refuse,
    ));
    for path in [
        "/bin/sh",
        "/proc/self/exe",
        "/lib64/ld-linux-x86-64.so.2",
        "/lib/x86_64-linux-gnu/libc.so.6",
    ] {
        if Path::new(path).exists() {
            cases.push(Case::new(
                CATEGORY,
                path,
                Candidate::Path(path.into()),
                Demand::Refuse,
            ));
        }
    }
    cases
}

/// Intact plugins that this host cannot use.
fn other_plugins(fixtures: &Fixtures) -> Vec<Case> {
    let names = [
        "removed_field",
        "changed_type",
        "wrong_version",
        "failing_constructor",
        "panicking_constructor",
        "not_abi_stable",
        "missing_export",
    ];
    names
        .map(|name| {
            let candidate = Candidate::Path(fixtures.plugin(name));
            Case::new("plugin for another host", name, candidate, Demand::Refuse)
        })
        .into()
}
