//! Which bytes a candidate may have, if that is asked for: pins and signatures.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use hotswap_core::{PublicKey, Sha256};
use minisign::KeyPair;

use crate::{
    fixtures::trust_with,
    trust::{Place, accepted, refused},
};

/// Puts a signature beside the file.
fn sign(place: &Place, pair: &KeyPair, name: &str) -> PathBuf {
    let bytes = fs::read(place.at(name)).unwrap();
    let signature = minisign::sign(Some(&pair.pk), &pair.sk, &bytes[..], None, None).unwrap();
    let path = place.at(&format!("{name}.minisig"));
    fs::write(&path, signature.into_string()).unwrap();
    path
}

fn pair() -> (KeyPair, PublicKey) {
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let key = pair.pk.to_base64().parse().unwrap();
    (pair, key)
}

#[test]
fn bytes_that_are_pinned_are_accepted_and_no_others() {
    let place = Place::new();
    let path = place.at("plugin.so");
    let found = Sha256::of(&fs::read(&path).unwrap());
    let others = [Sha256::of(b"one"), Sha256::of(b"two")];
    let [one, two] = others;
    let pinned = |pins: &[Sha256]| trust_with(|policy| policy.sha256 = pins.to_vec());
    accepted(&path, &pinned(&[found]));
    accepted(&path, &pinned(&[one, found]));
    refused(
        &path,
        &pinned(&[one]),
        &format!("SHA-256: expected {one}, found {found}"),
    );
    refused(
        &path,
        &pinned(&others),
        &format!("SHA-256: expected {one} or {two}, found {found}"),
    );
}

/// Before anything of it is looked into: what is not signed may be anything.
#[test]
fn what_is_no_library_is_refused_for_its_bytes() {
    let place = Place::new();
    let path = place.at("text");
    fs::write(&path, "Hello").unwrap();
    let (pin, found) = (Sha256::of(b"one"), Sha256::of(b"Hello"));
    let trust = trust_with(|policy| policy.sha256 = vec![pin]);
    refused(
        &path,
        &trust,
        &format!("SHA-256: expected {pin}, found {found}"),
    );
}

#[test]
fn a_signature_must_be_there_and_match() {
    let place = Place::new();
    let path = place.at("plugin.so");
    let ((pair, key), (other, _)) = (pair(), pair());
    let trust = trust_with(|policy| policy.public_key = Some(key.clone()));
    let signature = place.at("plugin.so.minisig");
    let its = format!("its signature {}", signature.display());

    refused(&path, &trust, &format!("{its}: no such file"));
    fs::create_dir(&signature).unwrap();
    refused(&path, &trust, &format!("{its}: a directory, not a file"));
    fs::remove_dir(&signature).unwrap();

    fs::write(&signature, "garbage").unwrap();
    refused(&path, &trust, &format!("{its}: not a minisign signature"));
    fs::write(&signature, vec![b'\n'; 65_537]).unwrap();
    let reason = format!("{its}: 65537 bytes are more than the 65536 that are accepted");
    refused(&path, &trust, &reason);

    sign(&place, &other, "plugin.so");
    let number = |pair: &KeyPair| {
        let mut number: [u8; 8] = pair.pk.keynum().try_into().unwrap();
        number.reverse();
        number.map(|byte| format!("{byte:02X}")).concat()
    };
    let reason = format!(
        "{its}: made with another key: expected {}, found {}",
        number(&pair),
        number(&other)
    );
    refused(&path, &trust, &reason);

    sign(&place, &pair, "plugin.so");
    accepted(&path, &trust);

    place.chmod("plugin.so.minisig", 0o666);
    let reason = format!(
        "{} is writable by everybody; `chmod o-w` it",
        signature.display()
    );
    refused(&path, &trust, &reason);
    place.chmod("plugin.so.minisig", 0o644);

    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    refused(&path, &trust, &format!("{its}: it does not match the file"));
    sign(&place, &pair, "plugin.so");
    accepted(&path, &trust);
}

#[test]
fn a_signature_lies_beside_the_real_file() {
    let place = Place::new();
    let (pair, key) = pair();
    fs::create_dir(place.at("versions")).unwrap();
    fs::rename(place.at("plugin.so"), place.at("versions/1.so")).unwrap();
    symlink("versions/1.so", place.at("current.so")).unwrap();
    let trust = trust_with(|policy| policy.public_key = Some(key));
    let beside_link = sign(&place, &pair, "current.so");
    let reason = format!(
        "its signature {}: no such file",
        place.at("versions/1.so.minisig").display()
    );
    refused(place.at("current.so"), &trust, &reason);
    fs::rename(beside_link, place.at("versions/1.so.minisig")).unwrap();
    accepted(place.at("current.so"), &trust);
}

/// Where nobody is known by a number, the bytes decide.
#[test]
fn a_pin_decides_where_owners_do_not() {
    let place = Place::new();
    let path = place.at("plugin.so");
    place.chmod("plugin.so", 0o666);
    let (found, other) = (Sha256::of(&fs::read(&path).unwrap()), Sha256::of(b"other"));
    let pinned = |pin| {
        trust_with(|policy| {
            policy.any_owner = true;
            policy.sha256 = vec![pin];
        })
    };
    accepted(&path, &pinned(found));
    refused(
        &path,
        &pinned(other),
        &format!("SHA-256: expected {other}, found {found}"),
    );
}
