//! What the bytes themselves must show: that they are pinned ones, that they are signed.
//!
//! Costs nothing when neither is asked for.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{Refusal, judge::Judge, read::read_settled};
use crate::{
    digest::Sha256,
    error::{Escaped, Stage},
    signature::PublicKey,
    trust::Policy,
};

/// A signature and its comments take some 300 bytes.
const SIGNATURE_BYTES_MAX: u64 = 64 * 1024;

/// Holds the bytes of the file at `real` against the pins and the key of `policy`. Gives their hash if that had to be
/// known.
pub(super) fn check(
    bytes: &[u8],
    real: &Path,
    policy: &Policy,
    judge: &Judge<'_>,
) -> Result<Option<Sha256>, Refusal> {
    let sha256 = check_pins(bytes, &policy.sha256)?;
    if let Some(key) = &policy.public_key {
        check_signature(bytes, real, key, judge)?;
    }
    Ok(sha256)
}

/// Where the signature of the file at `real` is looked for.
pub(super) fn signature_path(real: &Path) -> PathBuf {
    let mut path = OsString::from(real);
    path.push(".minisig");
    PathBuf::from(path)
}

fn check_pins(bytes: &[u8], pins: &[Sha256]) -> Result<Option<Sha256>, Refusal> {
    if pins.is_empty() {
        return Ok(None);
    }
    let found = Sha256::of(bytes);
    if pins.contains(&found) {
        return Ok(Some(found));
    }
    let pins: Vec<_> = pins.iter().map(Sha256::to_string).collect();
    let message = format!("SHA-256: expected {}, found {found}", pins.join(" or "));
    Err(Refusal::new(Stage::Trust, message))
}

fn check_signature(
    bytes: &[u8],
    real: &Path,
    key: &PublicKey,
    judge: &Judge<'_>,
) -> Result<(), Refusal> {
    let path = signature_path(real);
    let refuse = |message: &str| {
        let message = format!("its signature {}: {message}", Escaped(&path));
        Refusal::new(Stage::Trust, message)
    };
    let signature = read_settled(&path, SIGNATURE_BYTES_MAX, |place| judge.look(place));
    let signature = signature.map_err(|refusal| match refusal.stage {
        // That names a path already, if not this one.
        Stage::Trust => refusal,
        _ => refuse(&refusal.message),
    })?;
    key.verify(bytes, &signature.bytes)
        .map_err(|message| refuse(&message))
}
