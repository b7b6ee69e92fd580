//! What debuggers and profilers see of plugins.

use std::fs;

use crate::{
    alone::alone,
    fixtures::{build_of, load, plugin},
};

/// The names of the memory files that are mapped as code, sorted.
fn mapped_names() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let code = maps.lines().filter(|line| line.contains(" r-xp "));
    let mut names: Vec<_> = code
        .filter_map(|line| Some(line.split_once("/memfd:")?.1.to_owned()))
        .collect();
    names.sort();
    names
}

#[test]
fn each_generation_is_mapped_under_its_file_s_name_and_build_id() {
    alone(
        "debugging::each_generation_is_mapped_under_its_file_s_name_and_build_id",
        || {
            let it = load("build_1");
            let lease = it.lease();
            it.swap(plugin("build_2")).unwrap();
            assert_eq!(build_of(&it), 2);
            let name = |generation: &hotswap_core::GenerationInfo| {
                let stem = generation.path.file_stem().unwrap().to_str().unwrap();
                let id = generation.build_id.as_ref().expect("the linker writes one");
                format!("{stem}-{} (deleted)", &id[..8])
            };
            let names: Vec<_> = it.generations().iter().map(name).collect();
            assert!(names[0].starts_with("libbuild_1-"), "{names:?}");
            assert_eq!(mapped_names(), names);
            drop(lease);
        },
    );
}
