//! Checks of the bytes themselves: whether they are pinned, signed, not older than allowed, and have not crashed the
//! process before.
//!
//! Costs nothing if the policy asks for none of these.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{path_policy::PathPolicy, read::read_settled, serial};
use crate::{
    crash,
    digest::Sha256,
    error::{ErrorKind, SignatureProblem, Stage},
    signature::{Claims, PublicKey},
    trust::Policy,
};

/// A signature and its comments take some 300 bytes.
const SIGNATURE_BYTES_MAX: u64 = 64 * 1024;

/// Checks the bytes of the file at `real` against the pins, the key and the serial number of `policy`. Returns their
/// digest, if it had to be computed, and the claims of their signature.
pub(super) fn check(
    bytes: &[u8],
    real: &Path,
    policy: &Policy,
    path_policy: &PathPolicy<'_>,
) -> Result<(Option<Sha256>, Claims), ErrorKind> {
    let mut sha256 = check_pins(bytes, &policy.sha256)?;
    if let Some(folder) = &policy.avoid_crashed {
        let sha256 = *sha256.get_or_insert_with(|| Sha256::of(bytes));
        crash::check(folder, sha256)?;
    }
    let claims = match &policy.public_key {
        Some(key) => check_signature(bytes, real, key, path_policy)?,
        None if policy.serial_min.is_some() || policy.serial_file.is_some() => {
            return Err(ErrorKind::NoPublicKey);
        }
        None => Claims::default(),
    };
    serial::check(claims.serial, policy, path_policy)?;
    Ok((sha256, claims))
}

/// The path of the signature of the file at `real`.
pub(super) fn signature_path(real: &Path) -> PathBuf {
    real.with_added_extension("minisig")
}

fn check_pins(bytes: &[u8], pins: &[Sha256]) -> Result<Option<Sha256>, ErrorKind> {
    if pins.is_empty() {
        return Ok(None);
    }
    let found = Sha256::of(bytes);
    if pins.contains(&found) {
        return Ok(Some(found));
    }
    let expected = pins.to_vec();
    Err(ErrorKind::Pin { expected, found })
}

fn check_signature(
    bytes: &[u8],
    real: &Path,
    key: &PublicKey,
    path_policy: &PathPolicy<'_>,
) -> Result<Claims, ErrorKind> {
    let path = signature_path(real);
    let refuse = |why| ErrorKind::Signature {
        path: path.clone(),
        why,
    };
    let signature = read_settled(&path, SIGNATURE_BYTES_MAX, |place| path_policy.check(place));
    let signature = signature.map_err(|refusal| match refusal.stage() {
        // A refusal at this stage names a path already, which may be that of a folder.
        Stage::Trust => refusal,
        _ => refuse(SignatureProblem::Unreadable {
            cause: Box::new(refusal),
        }),
    })?;
    let claims = key.verify(bytes, &signature.bytes).map_err(refuse)?;
    match claims.expired(SystemTime::now()) {
        Some(at) => Err(ErrorKind::Expired { path, at }),
        None => Ok(claims),
    }
}
