//! Libraries that others have made.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use hotswap_elf::Query;

use crate::NATIVE;

/// The libraries that this process itself runs on: there are always some.
pub(crate) fn own_libraries() -> Vec<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let files = maps
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(5));
    let libraries: BTreeSet<&str> = files.filter(|file| file.contains(".so")).collect();
    assert!(
        !libraries.is_empty(),
        "a test runs on shared libraries:\n{maps}"
    );
    libraries.into_iter().map(PathBuf::from).collect()
}

fn libraries_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        let Ok(kind) = kind else { continue };
        if kind.is_dir() {
            libraries_below(&path, found);
        } else if kind.is_file()
            && path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().contains(".so"))
        {
            found.push(path);
        }
    }
}

/// No good library is refused. Files of the usual folders that are none are refused for that reason,
/// and for no other.
#[test]
fn every_library_of_this_machine_passes() {
    // Reading larger ones takes longer than inspecting them.
    const FILE_BYTES_MAX: u64 = 32 << 20;
    const NO_LIBRARIES: [&str; 7] = [
        // Linker scripts, texts about a library, compressed manuals.
        "not a shared object: ",
        // For other processes.
        "a 32-bit object, ",
        "for ",
        // Named like libraries.
        "an object file, ",
        "an executable, ",
        "a position-independent executable, ",
        // What debug packages install: sections without their contents.
        "the dynamic table is empty: a detached debug file",
    ];
    let mut paths = own_libraries();
    for folder in ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"] {
        libraries_below(Path::new(folder), &mut paths);
    }
    if let Some(folder) = env::var_os("HOTSWAP_LIBRARIES") {
        libraries_below(Path::new(&folder), &mut paths);
    }
    let mut passed = 0;
    let mut refused = Vec::new();
    for path in paths {
        if fs::metadata(&path).map_or(u64::MAX, |file| file.len()) > FILE_BYTES_MAX {
            continue;
        }
        let Ok(bytes) = fs::read(&path) else { continue };
        match hotswap_elf::inspect(&bytes, Query::default(), NATIVE)
            .map_err(|refusal| refusal.to_string())
        {
            Ok(_) => passed += 1,
            Err(why) if NO_LIBRARIES.iter().any(|other| why.starts_with(other)) => {}
            Err(why) => refused.push(format!("{}: {why}", path.display())),
        }
    }
    assert!(
        refused.is_empty(),
        "{} refused, {passed} passed:\n{}",
        refused.len(),
        refused.join("\n")
    );
    assert!(passed > 0);
    println!("{passed} libraries passed");
}
