//! The list of stored builds.

use std::fmt::Write as _;

use hotswap_core::text::one_line;
use hotswap_fleet::store::StoredBuild;

use super::clock;

/// What is stored, each in one line.
pub(crate) fn builds(builds: &[StoredBuild]) -> String {
    let mut text = String::new();
    for build in builds {
        let StoredBuild {
            sha256,
            bytes,
            published_ms,
            comment,
            used_by,
        } = build;
        let at = clock(*published_ms);
        let _ = write!(
            text,
            "{} {bytes:>12} {at} {}",
            one_line(sha256),
            one_line(comment)
        );
        if !used_by.is_empty() {
            let _ = write!(text, " (used by {})", one_line(&used_by.join(", ")));
        }
        text.push('\n');
    }
    text
}
