//! Names the kind of a file that is not an ELF file, so that the operator sees at once which file was given.
//!
//! It knows only how files begin, and judges nothing that begins like an ELF file.

use crate::refusal::excerpt;

/// File beginnings that identify one kind. Of two that share a prefix, the longer one comes first.
const MAGIC_NUMBERS: &[(&[u8], &str)] = &[
    (b"!<thin>\n", "a thin static library (ar archive)"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (b"\xfd7zXZ\0", "xz-compressed data"),
    (b"BZh", "bzip2-compressed data"),
    (b"\x04\x22\x4d\x18", "lz4-compressed data"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xfe\xed\xfa\xce", "a Mach-O file (macOS)"),
    (b"\xfe\xed\xfa\xcf", "a Mach-O file (macOS)"),
    (b"\xce\xfa\xed\xfe", "a Mach-O file (macOS)"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O file (macOS)"),
    (b"MZ", "a Windows executable or DLL"),
    (b"\0asm", "a WebAssembly module"),
    (b"BC\xc0\xde", "LLVM bitcode"),
    (b"\xde\xc0\x17\x0b", "LLVM bitcode"),
    (b"rust\0\0", "Rust metadata (.rmeta)"),
    (
        b"version https://git-lfs.github.com/spec",
        "a git-lfs pointer, not the file it stands for",
    ),
];

/// Names the kind of the file `bytes`. The text follows "not a shared object: ".
pub(crate) fn name(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "the file is empty".into();
    }
    if let Some((_, what)) = MAGIC_NUMBERS
        .iter()
        .find(|(start, _)| bytes.starts_with(start))
    {
        return (*what).into();
    }
    if bytes.starts_with(b"!<arch>\n") {
        return archive(bytes);
    }
    if bytes.starts_with(b"\xca\xfe\xba\xbe") {
        return java_or_universal(bytes);
    }
    if let Some(rest) = bytes.strip_prefix(b"#!") {
        return script(rest);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return "a tar archive".into();
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return format!("nothing but zeros ({} bytes)", bytes.len());
    }
    text(bytes).unwrap_or_else(|| unknown(bytes))
}

fn archive(bytes: &[u8]) -> String {
    // The metadata is one of the first members; if a symbol index precedes it, it is a few kilobytes in.
    const SEARCHED_BYTES_MAX: usize = 256 << 10;
    let searched = bytes.get(..SEARCHED_BYTES_MAX).unwrap_or(bytes);
    let member = b"lib.rmeta";
    if searched
        .windows(member.len())
        .any(|window| window == member)
    {
        "a Rust library (rlib)".into()
    } else {
        "a static library (ar archive)".into()
    }
}

/// Both kinds begin with the same four bytes. Then comes the number of architectures, or a class file's version (from
/// 45).
fn java_or_universal(bytes: &[u8]) -> String {
    match bytes.get(4..8) {
        Some([0, 0, 0, architectures]) if *architectures < 45 => {
            "a Mach-O universal file (macOS)".into()
        }
        _ => "a Java class file".into(),
    }
}

fn script(rest: &[u8]) -> String {
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or(rest);
    format!("a script for {}", excerpt(line.trim_ascii()))
}

fn text(bytes: &[u8]) -> Option<String> {
    const READ_BYTES_MAX: usize = 1024;
    let head = bytes.get(..READ_BYTES_MAX).unwrap_or(bytes);
    let readable = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The end of `head` cuts a character in two.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    if readable
        .chars()
        .any(|c| c.is_control() && !c.is_whitespace())
    {
        return None;
    }
    let start = readable.trim_start().to_ascii_lowercase();
    let linker = ["input(", "input (", "group(", "group (", "output_format("];
    // A comment may precede the first word.
    let code = start
        .split_once("*/")
        .map_or(start.as_str(), |(_, code)| code.trim_start());
    let linker_words = linker
        .iter()
        .any(|word| start.starts_with(word) || code.starts_with(word));
    Some(if linker_words || readable.contains("GNU ld script") {
        "a linker script (text)".into()
    } else if start.starts_with("<!doctype html") || start.starts_with("<html") {
        "an HTML page".into()
    } else if start.starts_with("<?xml") {
        "an XML document".into()
    } else if start.starts_with('{') {
        "JSON or similar text".into()
    } else if start.is_empty() {
        "blank text".into()
    } else {
        "plain text".into()
    })
}

fn unknown(bytes: &[u8]) -> String {
    let start: Vec<String> = bytes
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!(
        "begins with {}, an ELF file with 7f 45 4c 46",
        start.join(" ")
    )
}
