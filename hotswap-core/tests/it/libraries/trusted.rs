//! Whose the libraries may be that a plugin needs: every refusal comes before anything of the library runs, but for
//! what only the linker finds.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use super::{DEP, FILTER, Folder, SONAME, answer, is_mapped, open_with};
use crate::{
    alone::{alone, alone_with},
    fixtures::{has_glibc, trust_with, whole_reason},
};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// With `lib/libdep.so`, which `plugin.so` needs and finds.
fn needing(options: &[&str]) -> Folder {
    let folder = Folder::new();
    folder.link_with_dep(Some(DEP));
    folder.folder("lib");
    folder.library("dep", "lib/libdep.so", 7, &[SONAME]);
    folder.plugin(
        "plugin.so",
        &[&["-Wl,-rpath,$ORIGIN/lib"], options].concat(),
    );
    folder
}

#[test]
fn one_that_anybody_can_write_is_refused_before_it_is_loaded() {
    let folder = needing(&[]);
    let trust = trust_with(|_| {});
    for (name, mode) in [("lib/libdep.so", 0o646), ("lib", 0o777)] {
        chmod(&folder.at(name), mode);
        let error = open_with(&folder.at("plugin.so"), &trust).unwrap_err();
        let reason = format!(
            "trust: needs libdep.so: {} is writable by everybody; `chmod o-w` it",
            folder.at(name).display()
        );
        assert_eq!(whole_reason(&error), reason);
        assert!(!folder.is_loaded() && !is_mapped(&folder.at("")));
        let any_owner = trust_with(|policy| policy.any_owner = true);
        let (_, library) = open_with(&folder.at("plugin.so"), &any_owner).unwrap();
        assert_eq!(answer(&library), 7);
        drop(library);
        while is_mapped(&folder.at("")) {
            std::thread::yield_now();
        }
        fs::remove_file(folder.at("loaded")).unwrap();
        chmod(&folder.at(name), 0o755);
    }
    let (_, library) = open_with(&folder.at("plugin.so"), &trust).unwrap();
    assert_eq!(answer(&library), 7);
}

#[test]
fn a_filter_is_held_to_the_same() {
    let folder = Folder::new();
    folder.library("dep", DEP, 7, &[SONAME]);
    chmod(&folder.at(DEP), 0o666);
    let source = "int dep(void) { return 1; } int answer(void) { return dep(); }";
    folder.compile("plugin.so", source, &["-Wl,-rpath,$ORIGIN", FILTER]);
    let error = open_with(&folder.at("plugin.so"), &trust_with(|_| {})).unwrap_err();
    let reason = format!(
        "trust: needs libdep.so: {} is writable by everybody; `chmod o-w` it",
        folder.at(DEP).display()
    );
    assert_eq!(whole_reason(&error), reason);
    assert!(!folder.is_loaded());
}

#[test]
fn one_that_a_library_needs_is_held_to_the_same() {
    let folder = Folder::new();
    folder.folder("link");
    folder.library("below", "link/libbelow.so", 5, &[]);
    fs::copy(folder.at("link/libbelow.so"), folder.at("libbelow.so")).unwrap();
    let source = "int below(void); int dep(void) { return below(); }";
    let options = ["-lbelow", "-Wl,-rpath,$ORIGIN"];
    folder.compile("link/libdep.so", source, &options);
    fs::copy(folder.at("link/libdep.so"), folder.at(DEP)).unwrap();
    folder.plugin("plugin.so", &["-Wl,-rpath,$ORIGIN"]);
    chmod(&folder.at("libbelow.so"), 0o666);
    let error = open_with(&folder.at("plugin.so"), &trust_with(|_| {})).unwrap_err();
    let reason = format!(
        "trust: needs libbelow.so by way of libdep.so: {} is writable by everybody; `chmod o-w` it",
        folder.at("libbelow.so").display()
    );
    assert_eq!(whole_reason(&error), reason);
    assert!(!folder.is_loaded());
}

/// With `link/libdep.so`, which needs `libbelow.so`, and with a `libbelow.so` whose name is not UTF-8 in the file. Also
/// gives the option that has the linker look there.
fn with_a_name_that_is_no_text() -> (Folder, String) {
    let folder = Folder::new();
    folder.folder("link");
    folder.library("below", "link/libbelow.so", 5, &[]);
    let below = folder.at("").join(OsStr::from_bytes(b"lib\xffelow.so"));
    fs::copy(folder.at("link/libbelow.so"), &below).unwrap();
    chmod(&below, 0o666);
    let source = "int below(void); int dep(void) { return below(); }";
    let rpath = format!("-Wl,-rpath,{}", folder.at("").display());
    folder.compile("link/libdep.so", source, &["-lbelow", SONAME, &rpath]);
    (folder, rpath)
}

/// Copies a file that needs `libbelow.so`, so that it needs the one whose name is not UTF-8.
fn copy_with_that_name(folder: &Folder, from: &str, to: &str) {
    let mut bytes = fs::read(folder.at(from)).unwrap();
    let name = b"libbelow.so";
    let mut windows = bytes.windows(name.len());
    let place = windows.position(|window| window == name).unwrap();
    bytes[place + 3] = 0xff;
    fs::write(folder.at(to), bytes).unwrap();
}

const NO_TEXT: &str = r"DT_NEEDED is not UTF-8: lib\xffelow.so";

/// The linker would look for those bytes, and nobody would have looked there before.
#[test]
fn one_whose_name_is_no_text_is_refused_before_it_is_loaded() {
    let (folder, rpath) = with_a_name_that_is_no_text();
    let refused = |reason: &str| {
        let error = open_with(&folder.at("plugin.so"), &trust_with(|_| {})).unwrap_err();
        assert_eq!(whole_reason(&error), reason);
        assert!(!folder.is_loaded() && !is_mapped(&folder.at("")));
    };
    let source = "int below(void); int answer(void) { return below(); }";
    folder.compile("text.so", source, &["-lbelow", &rpath]);
    copy_with_that_name(&folder, "text.so", "plugin.so");
    refused(&format!("inspect: {NO_TEXT}"));

    copy_with_that_name(&folder, "link/libdep.so", DEP);
    folder.plugin("plugin.so", &[&rpath]);
    let found = folder.at(DEP).display().to_string();
    refused(&format!("open: needs libdep.so: {found}: {NO_TEXT}"));
}

#[test]
fn one_that_only_the_linker_finds_and_that_needs_such_a_name_is_refused() {
    let test =
        "libraries::trusted::one_that_only_the_linker_finds_and_that_needs_such_a_name_is_refused";
    alone(test, || {
        let (folder, rpath) = with_a_name_that_is_no_text();
        // The linker's own name for the folder differs between systems.
        let machine = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
        for name in ["lib", "lib64", &machine] {
            folder.folder(name);
            copy_with_that_name(&folder, "link/libdep.so", &format!("{name}/{DEP}"));
        }
        folder.plugin("plugin.so", &[&format!("{rpath}/$LIB")]);
        let error = open_with(&folder.at("plugin.so"), &trust_with(|_| {})).unwrap_err();
        let reason = whole_reason(&error);
        let start = "open: needs libdep.so: ";
        assert!(
            reason.starts_with(start) && reason.ends_with(NO_TEXT),
            "{reason}"
        );
        // It would wait for the library to leave, of which nothing is known.
        fs::remove_dir_all(folder.at("")).unwrap();
        std::mem::forget(folder);
    });
}

#[test]
fn links_and_the_root_are_for_libraries_as_for_plugins() {
    let folder = needing(&[]);
    fs::rename(folder.at("lib/libdep.so"), folder.at("lib/real.so")).unwrap();
    symlink("real.so", folder.at("lib/libdep.so")).unwrap();
    let error = open_with(
        &folder.at("plugin.so"),
        &trust_with(|policy| policy.follow_links = false),
    );
    let reason = format!(
        "trust: needs libdep.so: {} is a symbolic link, and none is followed (Policy::follow_links)",
        folder.at("lib/libdep.so").display()
    );
    assert_eq!(whole_reason(&error.unwrap_err()), reason);

    folder.folder("root");
    folder.plugin("root/plugin.so", &["-Wl,-rpath,$ORIGIN/../lib"]);
    let error = open_with(
        &folder.at("root/plugin.so"),
        &trust_with(|policy| policy.root = Some(folder.at("root"))),
    );
    let reason = format!(
        "trust: needs libdep.so: {} lies outside of {} (Policy::root)",
        folder.at("lib/real.so").display(),
        folder.at("root").display()
    );
    assert_eq!(whole_reason(&error.unwrap_err()), reason);
    assert!(!folder.is_loaded());
    // The system's libraries lie elsewhere, and most of them are links. Nothing has this one mapped.
    let source = "int answer(void) { return 1; }";
    folder.compile("root/plugin.so", source, &["-l:libBrokenLocale.so.1"]);
    let trust = trust_with(|policy| {
        policy.root = Some(folder.at("root"));
        policy.follow_links = false;
    });
    let (_, library) = open_with(&folder.at("root/plugin.so"), &trust).unwrap();
    assert_eq!(answer(&library), 1);
}

#[test]
fn what_the_environment_leads_to_is_held_to_the_same() {
    const PLACE: &str = "HOTSWAP_TEST_PLACE";
    // The linker has read the variable when the process began.
    let folder = std::env::var_os(PLACE).map_or_else(|| Some(needing(&[])), |_| None);
    let place = folder.as_ref().map(|it| it.at(""));
    let place = place.unwrap_or_else(|| std::env::var_os(PLACE).unwrap().into());
    if let Some(folder) = &folder {
        folder.plugin("plugin.so", &[]);
        chmod(&folder.at("lib/libdep.so"), 0o646);
    }
    let lib = place.join("lib");
    alone_with(
        "libraries::trusted::what_the_environment_leads_to_is_held_to_the_same",
        &[
            (PLACE, place.to_str().unwrap()),
            ("LD_LIBRARY_PATH", lib.to_str().unwrap()),
        ],
        || {
            let plugin = place.join("plugin.so");
            let error = open_with(&plugin, &trust_with(|_| {})).unwrap_err();
            let reason = format!(
                "trust: needs libdep.so: {} is writable by everybody; `chmod o-w` it",
                lib.join(DEP).display()
            );
            assert_eq!(whole_reason(&error), reason);
            assert!(!place.join("loaded").exists());
            chmod(&lib.join(DEP), 0o644);
            let (_, library) = open_with(&plugin, &trust_with(|_| {})).unwrap();
            assert_eq!(answer(&library), 7);
        },
    );
}

/// The linker has read it when the process began.
#[test]
fn what_the_environment_is_changed_to_is_not_looked_into() {
    alone(
        "libraries::trusted::what_the_environment_is_changed_to_is_not_looked_into",
        || {
            let folder = needing(&[]);
            folder.plugin("plugin.so", &[]);
            chmod(&folder.at("lib/libdep.so"), 0o646);
            // SAFETY: no other thread of this process uses the environment.
            unsafe { std::env::set_var("LD_LIBRARY_PATH", folder.at("lib")) };
            let error = open_with(&folder.at("plugin.so"), &trust_with(|_| {})).unwrap_err();
            let reason =
                "link: libdep.so: cannot open shared object file: No such file or directory";
            assert_eq!(whole_reason(&error), reason);
        },
    );
}

/// By an entry with a part that only the linker knows.
#[test]
fn what_only_the_linker_finds_is_refused_when_it_has_been_loaded() {
    let folder = needing(&[]);
    // The part differs between systems.
    let machine = format!("opt/lib/{}-linux-gnu", std::env::consts::ARCH);
    let places = ["opt/lib", "opt/lib64", &machine].map(|name| {
        folder.folder(name);
        folder.at(name).join(DEP)
    });
    for place in &places {
        fs::copy(folder.at("lib/libdep.so"), place).unwrap();
    }
    let rpath = format!("-Wl,-rpath,{}/$LIB", folder.at("opt").display());
    folder.plugin("plugin.so", &[&rpath]);
    let (_, library) = open_with(&folder.at("plugin.so"), &trust_with(|_| {})).unwrap();
    assert_eq!(answer(&library), 7);
    drop(library);
    while is_mapped(&folder.at("")) {
        std::thread::yield_now();
    }
    for place in &places {
        chmod(place, 0o666);
    }
    let error = open_with(&folder.at("plugin.so"), &trust_with(|_| {})).unwrap_err();
    let reason = whole_reason(&error);
    let is_it = |place: &PathBuf| {
        let place = place.display();
        reason
            == format!("trust: needs libdep.so: {place} is writable by everybody; `chmod o-w` it")
    };
    assert!(places.iter().any(is_it), "{reason}");
    // It leaves with the refused plugin.
    while is_mapped(&folder.at("")) {
        std::thread::yield_now();
    }
}

/// The linker looks there first.
#[test]
#[cfg(target_arch = "x86_64")]
fn what_is_for_one_kind_of_processor_is_held_to_the_same() {
    if !std::is_x86_feature_detected!("sse4.2") {
        return println!("this processor has no such folder: not tested");
    }
    if !has_glibc(33) {
        return println!("this linker knows no such folders: not tested");
    }
    let folder = needing(&[]);
    let kind = "lib/glibc-hwcaps/x86-64-v2";
    folder.folder(kind);
    let place = folder.at(kind).join(DEP);
    fs::rename(folder.at("lib/libdep.so"), &place).unwrap();
    let rpath = format!("-Wl,-rpath,{}", folder.at("lib").display());
    folder.plugin("plugin.so", &[&rpath]);
    let (_, library) = open_with(&folder.at("plugin.so"), &trust_with(|_| {})).unwrap();
    assert_eq!(answer(&library), 7);
    drop(library);
    while is_mapped(&place) {
        std::thread::yield_now();
    }
    fs::remove_file(folder.at("loaded")).unwrap();

    // There alone, it is refused.
    chmod(&place, 0o666);
    let error = open_with(&folder.at("plugin.so"), &trust_with(|_| {})).unwrap_err();
    let reason = format!(
        "trust: needs libdep.so: {} is writable by everybody; `chmod o-w` it",
        place.display()
    );
    assert_eq!(whole_reason(&error), reason);
    assert!(!folder.is_loaded() && !is_mapped(&folder.at("")));

    // Somebody could put it there.
    fs::rename(&place, folder.at("other")).unwrap();
    chmod(&folder.at(kind), 0o777);
    let error = open_with(&folder.at("plugin.so"), &trust_with(|_| {})).unwrap_err();
    let reason = whole_reason(&error);
    let start = format!(
        "trust: needs libdep.so: not found, and the linker would also look in \"{}\"",
        folder.at(kind).display()
    );
    assert!(reason.starts_with(&start), "{reason}");

    // The one that is found is the one that is loaded.
    folder.library("dep", "lib/libdep.so", 8, &[SONAME]);
    fs::rename(folder.at("other"), &place).unwrap();
    let legacy = folder.at("lib/tls");
    for _ in 0..2 {
        let (_, library) = open_with(&folder.at("plugin.so"), &trust_with(|_| {})).unwrap();
        assert_eq!(answer(&library), 8);
        assert!(!is_mapped(&place) && !is_mapped(&legacy));
        drop(library);
        while is_mapped(&folder.at("")) {
            std::thread::yield_now();
        }
        // The same for those that older linkers know.
        if place.exists() {
            fs::create_dir(&legacy).unwrap();
            fs::rename(&place, legacy.join(DEP)).unwrap();
            fs::remove_dir_all(folder.at("lib/glibc-hwcaps")).unwrap();
        }
    }
}
