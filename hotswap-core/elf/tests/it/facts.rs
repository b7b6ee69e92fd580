//! What is told of files that pass.

use hotswap_elf::{Facts, Machine, Process, Query, build_id};

use crate::{
    ARM, ROOT, X86, facts,
    fixture::{AARCH64, Library, PAGE, X86_64, string},
    inspect,
};

#[test]
fn facts_of_the_fixture() {
    let mut expected = Facts::default();
    expected.soname = Some("libfixture.so".into());
    expected.needed = vec!["libc.so.6".into()];
    expected.runpath = Some("/opt/plugins".into());
    expected.thread_exit_hook = true;
    expected.tls_bytes = 32;
    expected.build_id = Some("deadbeef".into());
    assert_eq!(facts(&Library::new(&X86_64)), expected);
    assert_eq!(facts(&Library::with_old_hash(&X86_64)), expected);
    let arm = Library::new(&AARCH64);
    assert_eq!(inspect(&arm.bytes, ROOT, ARM).unwrap(), expected);
    // A machine without a table of relocation types, and one that is not known at all.
    let mut other = Library::new(&X86_64);
    other.put16(18, 243);
    for machine in [Machine::from_number(243), Machine::UNKNOWN] {
        let process = Process::new(machine, PAGE);
        assert_eq!(inspect(&other.bytes, ROOT, process).unwrap(), expected);
    }
}

#[test]
fn a_build_id_is_found_in_the_beginning_of_a_file_that_has_it() {
    let library = Library::new(&X86_64);
    // A header of twelve bytes, `GNU`, and four bytes.
    let end = library.at("note") + 20;
    for length in 0..=library.bytes.len() {
        let expected = (length >= end).then(|| "deadbeef".to_owned());
        assert_eq!(build_id(&library.bytes[..length]), expected, "{length}");
    }
}

#[test]
fn facts_that_flags_tell() {
    let mut library = Library::new(&X86_64);
    library
        .value("flags", 0x8 | 0x10)
        .value("flags_1", 0x1 | 0x8)
        .tag("spare", 22, 0);
    library.set("call", 4, [0xaa, 0]);
    let facts = facts(&library);
    assert!(facts.static_tls && facts.nodelete && facts.unique_symbols);
    assert!(!facts.unique_in_std);
    assert_eq!(facts.static_tls_bytes(), Some(32));
}

#[test]
fn filters_are_told_apart_from_what_is_needed() {
    for tag in [0x7fff_fffd, 0x7fff_ffff] {
        let mut library = Library::new(&X86_64);
        library.tag("spare", tag, string("libfixture.so").into());
        let facts = facts(&library);
        assert_eq!(facts.needed, ["libc.so.6"]);
        assert_eq!(facts.filters, ["libfixture.so"]);
        let libraries: Vec<&str> = facts.libraries().collect();
        assert_eq!(libraries, ["libc.so.6", "libfixture.so"]);
    }
}

#[test]
fn a_stack_is_executable_if_the_file_says_so_or_the_machine() {
    let is_executable = |codes, process, segment: (u32, u32)| {
        let mut library = Library::new(codes);
        let place = library.at("PT_GNU_STACK");
        library.put32(place, segment.0).put32(place + 4, segment.1);
        let facts = inspect(&library.bytes, ROOT, process).unwrap();
        facts.executable_stack
    };
    // Its type and its flags.
    let (plain, executable, none) = ((0x6474_e551, 6), (0x6474_e551, 7), (0, 0));
    for (codes, process, default) in [(&X86_64, X86, true), (&AARCH64, ARM, false)] {
        assert!(!is_executable(codes, process, plain));
        assert!(is_executable(codes, process, executable));
        assert_eq!(is_executable(codes, process, none), default);
    }
}

#[test]
fn a_marker_is_a_static_that_is_found() {
    let library = Library::new(&X86_64);
    for (name, expected) in [
        ("root", true),
        ("call", false),
        ("other", false),
        ("", false),
    ] {
        let query = Query {
            marker: Some(name),
            ..Query::default()
        };
        let facts = hotswap_elf::inspect(&library.bytes, query, X86).unwrap();
        assert_eq!(facts.has_marker, expected, "{name}");
    }
}

/// The changes name bytes of the file, and with them it is what it would be without the marks.
#[test]
fn marks_by_which_the_system_keeps_an_image_can_be_taken_away() {
    let mut marked = Library::new(&X86_64);
    marked
        .value("flags_1", 0x1 | 0x8)
        .tag("spare", 0x6fff_fffb, 0x9);
    marked
        .set("root", 4, [0x21])
        .set("call", 4, [0xa2])
        .set("local", 4, [0xa6]);
    let found = facts(&marked);
    assert!(found.nodelete && found.unique_symbols);
    assert_eq!(
        (found.without_nodelete.len(), found.without_unique.len()),
        (2, 2)
    );
    let mut changed = marked.clone();
    for change in found.without_nodelete.iter().chain(&found.without_unique) {
        let place = usize::try_from(change.offset).unwrap();
        assert_eq!(changed.bytes[place], change.from);
        changed.bytes[place] = change.to;
    }
    let mut expected = marked;
    expected.value("flags_1", 1).tag("spare", 0x6fff_fffb, 1);
    expected.set("call", 4, [0x22]).set("local", 4, [0x26]);
    assert!(changed.bytes == expected.bytes);
    let mut without = found;
    (without.nodelete, without.unique_symbols) = (false, false);
    without.without_nodelete.clear();
    without.without_unique.clear();
    assert_eq!(facts(&changed), without);
}

#[test]
fn facts_that_relocations_tell() {
    let mut library = Library::new(&X86_64);
    assert!(!facts(&library).static_tls);
    library.set32("rela_tls", 8, 18);
    assert!(facts(&library).static_tls);
}
