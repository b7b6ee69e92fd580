//! `scripts/new`: what it refuses, what it makes, and that it leaves nothing behind. Whether what it makes builds
//! and runs, `scripts/new-check` says.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

#[test]
fn bad_names_are_refused() {
    let check = |name: &str, why: &str| {
        let folder = TempDir::new().unwrap();
        check_refused(
            &folder,
            name,
            "it",
            &format!("the name '{name}' is refused: {why}"),
        );
    };
    for name in [
        "", "Acme", "acmé", "9acme", "-acme", "acme-", "ac--me", "ac_me", "ac me", "../acme",
        "a\nb",
    ] {
        check(
            name,
            "expected lower-case letters, digits and single hyphens, a letter first",
        );
    }
    for name in [
        "fn",
        "self",
        "crate",
        "async",
        "std",
        "core",
        "proc-macro",
        "test",
    ] {
        check(name, "it is a word of Rust's own");
    }
    for name in ["hotswap", "hotswap-core"] {
        check(name, "what begins so is the library");
    }
    // `notify`, which the library uses, has a part of that name.
    check("notify", "there is a dependency 'notify-types'");
    check(&"a".repeat(58), "expected at most 57 characters, found 58");
}

#[test]
fn bad_destinations_are_refused() {
    let folder = TempDir::new().unwrap();
    let it = folder.path().join("it");
    let check = |destination: &str, message: &str| {
        check_refused(
            &folder,
            "acme",
            destination,
            &message.replace("HERE", folder.path().to_str().unwrap()),
        );
    };
    check("", "the destination is empty");
    check("no/it", "there is no folder HERE/no/");
    // Not even root can.
    check("/proc/it", "cannot write in /proc/");
    check(".", "HERE/. exists");

    symlink("/no/such", &it).unwrap();
    check("it", "HERE/it exists");
    check("it/", "HERE/it exists");
    fs::remove_file(&it).unwrap();
    fs::create_dir(&it).unwrap();
    check("it//", "HERE/it exists");
    fs::remove_dir(&it).unwrap();
    fs::write(&it, "").unwrap();
    check("it", "HERE/it exists");
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [&[][..], &["acme"], &["acme", "it", "more"]] {
        let output = script(&workspace()).args(arguments).output().unwrap();
        assert_eq!(
            said(&output),
            (Some(2), "usage: scripts/new NAME DEST\n".to_owned())
        );
    }
}

#[test]
fn nothing_is_left_of_what_fails() {
    // Half a workspace: there is no library to be copied.
    let (half, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::create_dir(half.path().join("scripts")).unwrap();
    fs::copy(
        workspace().join("scripts/new"),
        half.path().join("scripts/new"),
    )
    .unwrap();
    fs::write(half.path().join("Cargo.lock"), "").unwrap();
    let mut bash = Command::new("bash");
    bash.arg(half.path().join("scripts/new"))
        .args(["acme", "it"])
        .current_dir(&folder);
    let output = bash.output().unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert_eq!(below(folder.path()), [""; 0]);

    // All is written by the time it asks cargo.
    for (signal, code) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        let output = with_cargo(&format!("kill -{signal} $$"), &folder);
        assert_eq!(output.status.code(), Some(code), "{signal}");
        assert_eq!(below(folder.path()), [""; 0], "{signal}");
    }
}

#[test]
fn without_cargo_there_is_only_more_in_the_lock_file() {
    let folder = TempDir::new().unwrap();
    let output = with_cargo("false", &folder);
    let said = said(&output);
    assert_eq!(
        said,
        (
            Some(0),
            "new: cargo cannot trim Cargo.lock here; the first build will\n".to_owned()
        )
    );
    let lock = |folder: &Path| fs::read_to_string(folder.join("Cargo.lock")).unwrap();
    assert_eq!(lock(&folder.path().join("it")), lock(&workspace()));
}

#[test]
fn a_workspace_is_made_with_nothing_of_ours_but_the_library() {
    let folder = TempDir::new().unwrap();
    let it = folder.path().join("a folder");
    let output = script(&workspace())
        .args(["acme", "a folder/"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert_eq!(said(&output), (Some(0), String::new()));
    let expected = format!(
        "new: acme is in {}; its README says how to run and to test it\n",
        it.display()
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        1,
        "there is nothing beside it"
    );
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
    assert_eq!(mode(&it), mode(&it.join("acme-host")));

    let mut own = below(&it);
    own.retain(|path| it.join(path).is_file() && !path.starts_with("hotswap/"));
    assert_eq!(
        own,
        [
            ".dockerignore",
            ".github/workflows/ci.yml",
            ".gitignore",
            "Cargo.lock",
            "Cargo.toml",
            "Dockerfile",
            "README.md",
            "acme-host/Cargo.toml",
            "acme-host/src/main.rs",
            "acme-host/tests/swap.rs",
            "acme-plugin/Cargo.toml",
            "acme-plugin/src/lib.rs",
            "acme-types/Cargo.toml",
            "acme-types/src/lib.rs",
        ]
    );
    // Of the library, everything but what tests and measures it.
    let library = [
        "Only in NEW: Cargo.toml",
        "Only in NEW: LICENSE-APACHE",
        "Only in NEW: LICENSE-MIT",
        "Only in NEW: hotswap-core",
        "Only in NEW: hotswap-types",
    ];
    let nothing = TempDir::new().unwrap();
    check_kept(&it.join("hotswap"), nothing.path(), &library);
    let core = [
        "Only in OLD/dev: tests",
        "Only in OLD/elf: tests",
        "Only in OLD: examples",
        "Only in OLD: fleet",
        "Only in OLD: tests",
        "Only in OLD: tools",
    ];
    let check = |package: &str, differences: &[&str]| {
        let new = it.join("hotswap").join(package);
        check_kept(&new, &workspace().join(package), differences);
    };
    check("hotswap-core", &core);
    check("hotswap-types/macros", &[]);
    check("hotswap-types/sdk", &["Only in OLD: tests"]);
    check("hotswap-types/unload", &[]);
}

#[test]
fn it_has_the_name_everywhere_and_no_name_of_ours() {
    let folder = TempDir::new().unwrap();
    let output = script(&workspace())
        .args(["my-app", "it"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert_eq!(said(&output), (Some(0), String::new()));
    let it = folder.path().join("it");
    let read = |path: &str| fs::read_to_string(it.join(path)).unwrap();
    let mut own = below(&it);
    own.retain(|path| !path.starts_with("hotswap/") && it.join(path).is_file());
    for path in own {
        let text = read(&path);
        let ours = [
            "acme",
            "demo",
            "Plugin for",
            "hotswap-plugin",
            "hotswap-types",
            "hotswap_types",
            "libplugin",
        ];
        // The library's packages lie in a folder of that name.
        let text = text.replace("\"hotswap/hotswap-types/", "");
        for ours in ours {
            assert!(
                !text.contains(ours) && !path.contains(ours),
                "{path} says `{ours}`"
            );
        }
    }
    assert!(read("README.md").starts_with("# my-app\n"));
    assert!(read("README.md").contains("\ncargo run -p my-app-host -- --dev\n"));
    assert!(read("my-app-host/src/main.rs").contains("use my_app_types::"));
    assert!(read("Dockerfile").contains("/libmy_app_plugin.so"));
}

/// A newcomer reads it in a minute.
#[test]
fn the_host_is_short() {
    let host = workspace().join("scripts/new.d/acme-host/src/main.rs");
    let lines = fs::read_to_string(host).unwrap().lines().count();
    assert!(lines <= 110, "{lines} lines");
}

fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the workspace").to_owned()
}

fn script(workspace: &Path) -> Command {
    Command::new(workspace.join("scripts/new"))
}

/// With something else under the name of cargo, which bash takes for a function.
fn with_cargo(does: &str, folder: &TempDir) -> Output {
    // What this test's own starter ignores (`nohup`), nobody that it starts could trap.
    let mut script = Command::new("env");
    script
        .arg("--default-signal")
        .arg(workspace().join("scripts/new"));
    script.args(["acme", "it"]).current_dir(folder);
    script
        .env("BASH_FUNC_cargo%%", format!("() {{ {does}; }}"))
        .output()
        .unwrap()
}

#[track_caller]
fn check_refused(folder: &TempDir, name: &str, destination: &str, message: &str) {
    let before = below(folder.path());
    let output = script(&workspace())
        .args([name, destination])
        .current_dir(folder)
        .output()
        .unwrap();
    assert_eq!(said(&output), (Some(1), format!("new: {message}\n")));
    assert_eq!(below(folder.path()), before);
}

/// Holds what was made against what is here, but for what editors leave behind.
#[track_caller]
fn check_kept(new: &Path, old: &Path, differences: &[&str]) {
    let mut diff = Command::new("diff");
    diff.env("LC_ALL", "C")
        .args(["-rq", "--exclude=.*", "--exclude=*~", "--exclude=*.orig"]);
    let output = diff.arg(new).arg(old).output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    let found = found
        .replace(new.to_str().unwrap(), "NEW")
        .replace(old.to_str().unwrap(), "OLD")
        // Some versions of `diff` quote names.
        .replace('\'', "");
    let mut found: Vec<_> = found.lines().collect();
    found.sort();
    assert_eq!(found, differences);
}

fn said(output: &Output) -> (Option<i32>, String) {
    (
        output.status.code(),
        String::from_utf8(output.stderr.clone()).unwrap(),
    )
}

/// All paths in a folder, at any depth, in order.
fn below(folder: &Path) -> Vec<String> {
    let output = Command::new("find")
        .args([".", "-mindepth", "1", "-printf", "%P\n"])
        .current_dir(folder)
        .output();
    let paths = String::from_utf8(output.unwrap().stdout).unwrap();
    let mut paths: Vec<_> = paths.lines().map(str::to_owned).collect();
    paths.sort();
    paths
}
