//! Which bytes a candidate may have, if that is asked for: pins and signatures.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    thread,
    time::{Duration, SystemTime},
};

use hotswap_core::{Hotswap, PublicKey, Sha256, Stage, State, Trust, loader::Loader};
use minisign::KeyPair;

use crate::{
    alone::alone,
    fixtures::{Plugin, build_of, plugin, trust_with, whole_reason},
    trust::{Place, accepted, refused},
};

/// Puts a signature beside the file.
fn sign(place: &Place, pair: &KeyPair, name: &str) -> PathBuf {
    sign_with(place, pair, name, None)
}

/// With what the trusted comment says.
fn sign_with(place: &Place, pair: &KeyPair, name: &str, comment: Option<&str>) -> PathBuf {
    let bytes = fs::read(place.at(name)).unwrap();
    let signature = minisign::sign(Some(&pair.pk), &pair.sk, &bytes[..], comment, None).unwrap();
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

/// A folder with signed plugins, and a file with the highest serial number.
struct Signed {
    place: Place,
    pair: KeyPair,
    key: PublicKey,
}

impl Signed {
    fn new() -> Self {
        let place = Place::new();
        let (pair, key) = pair();
        Self { place, pair, key }
    }

    /// A plugin with this trusted comment.
    fn plugin(&self, name: &str, comment: &str) -> PathBuf {
        let path = self.place.at(name);
        fs::copy(self.place.at("plugin.so"), &path).unwrap();
        sign_with(&self.place, &self.pair, name, Some(comment));
        path
    }

    fn trust_min(&self, serial: u64) -> Trust {
        trust_with(|policy| {
            policy.public_key = Some(self.key.clone());
            policy.serial_min = Some(serial);
        })
    }

    /// With the highest number in `serial`, which has this in it now.
    fn trust_file(&self, content: &str) -> Trust {
        fs::write(self.serial_file(), content).unwrap();
        trust_with(|policy| {
            policy.public_key = Some(self.key.clone());
            policy.serial_file = Some(self.serial_file());
        })
    }

    fn serial_file(&self) -> PathBuf {
        self.place.at("serial")
    }

    /// What is in the file, and that nothing is beside it.
    #[track_caller]
    fn kept(&self) -> String {
        assert!(!self.place.at("serial.new").exists());
        fs::read_to_string(self.serial_file()).unwrap()
    }
}

#[test]
fn a_serial_number_must_be_high_enough() {
    let it = Signed::new();
    let path = it.plugin(
        "signed.so",
        "timestamp:1\tfile:signed.so\thashed\tserial=42",
    );
    for floor in [0, 1, 42] {
        let host: Plugin = Hotswap::load(&path, &it.trust_min(floor)).unwrap();
        let all = host.generations();
        assert_eq!(all[0].serial, Some(42));
        let line = format!("generation 1 live: {} (serial 42)", path.display());
        assert_eq!(all[0].to_string(), line);
    }
    let reason = "its serial number: expected at least 43, found 42 (Policy::serial_min)";
    refused(&path, &it.trust_min(43), reason);
    let none = it.plugin("none.so", "timestamp:1\tfile:serial=99.so\thashed");
    let reason = "its serial number: expected at least 0, found none (Policy::serial_min)";
    refused(&none, &it.trust_min(0), reason);

    // It is part of the signature, and without one there is none.
    let trust = trust_with(|policy| policy.serial_min = Some(1));
    let reason = "a serial number is asked for, which only a signature has, and no signature is (Policy::public_key)";
    refused(&path, &trust, reason);
    let signature = it.place.at("signed.so.minisig");
    let forged = fs::read_to_string(&signature)
        .unwrap()
        .replace("serial=42", "serial=43");
    fs::write(&signature, forged).unwrap();
    let reason = format!(
        "its signature {}: it does not match the file",
        signature.display()
    );
    refused(&path, &it.trust_min(43), &reason);
}

#[test]
fn a_claim_that_is_not_understood_is_a_refusal() {
    let it = Signed::new();
    let trust = trust_with(|policy| policy.public_key = Some(it.key.clone()));
    for word in [
        "serial=",
        "Serial=1",
        "serial=1.5",
        "expires=tomorrow",
        "expires:2027-01-31T00:00:00Z",
    ] {
        let path = it.plugin("odd.so", &format!("timestamp:1 {word}"));
        let reason = format!(
            "its signature {}.minisig: its trusted comment has `{word}`, which is not understood",
            path.display()
        );
        refused(&path, &trust, &reason);
    }
    // What it says is shown, and must not move what is on a terminal.
    let path = it.plugin("odd.so", "serial=\u{202e}1");
    let reason = format!(
        "its signature {}.minisig: its trusted comment has `serial=\\u{{202e}}1`, which is not understood",
        path.display()
    );
    refused(&path, &trust, &reason);
}

#[test]
fn a_signature_expires() {
    let it = Signed::new();
    let trust = trust_with(|policy| policy.public_key = Some(it.key.clone()));
    let path = it.plugin("signed.so", "serial=1 expires=2026-01-31T12:30:00Z");
    let reason = format!(
        "its signature {}.minisig: it has expired at 2026-01-31T12:30:00Z",
        path.display()
    );
    refused(&path, &trust, &reason);
    // Wherever it stands in the comment.
    it.plugin("signed.so", "file:v42.so expires=2026-01-31T12:30:00Z");
    refused(&path, &trust, &reason);

    let path = it.plugin("signed.so", "expires=9999-12-31T23:59:59Z");
    let host: Plugin = Hotswap::load(&path, &trust).unwrap();
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    assert_eq!(host.generations()[0].expires, Some(last));
    assert_eq!(host.generations()[0].serial, None);
    // One that is published stays, and can be gone back to; the file of it is not taken again.
    it.plugin("signed.so", "expires=1970-01-01T00:00:01Z");
    host.swap(&path).unwrap_err();
    let next = it.plugin("next.so", "");
    host.swap(&next).unwrap();
    host.rollback().unwrap();
}

#[test]
fn the_highest_serial_number_is_kept_when_a_candidate_is_accepted() {
    let it = Signed::new();
    let trust = it.trust_file("0");
    let plugin = |serial: u64| it.plugin(&format!("{serial}.so"), &format!("serial={serial}"));
    let host: Plugin = Hotswap::load(plugin(7), &trust).unwrap();
    assert_eq!(it.kept(), "7\n");
    host.swap(plugin(9)).unwrap();
    assert_eq!(it.kept(), "9\n");
    // The same again is no step back.
    host.swap(plugin(9)).unwrap();

    let reason = "trust: its serial number: expected at least 9, found 8 (Policy::serial_file)";
    assert_eq!(whole_reason(&host.swap(plugin(8)).unwrap_err()), reason);
    assert_eq!(
        whole_reason(&Plugin::load(plugin(8), &trust).unwrap_err()),
        reason
    );
    // What is refused for something else, or not published, has no say.
    let damaged = it.place.at("20.so");
    fs::write(&damaged, "damaged").unwrap();
    sign_with(&it.place, &it.pair, "20.so", Some("serial=20"));
    assert_eq!(host.swap(damaged).unwrap_err().stage(), Stage::Inspect);
    drop(host.prepare(plugin(21)).unwrap());
    assert_eq!(it.kept(), "9\n");
    host.prepare(plugin(22)).unwrap().publish();
    assert_eq!(it.kept(), "22\n");

    // Back to what was accepted here, whether it is still mapped or not.
    let before = host.generations().len();
    host.rollback().unwrap();
    let all = host.generations();
    assert!(all.len() >= before, "{all:?}");
    let live = all.iter().find(|it| it.state == State::Live).unwrap();
    assert_eq!(live.serial, Some(9));
    assert_eq!(it.kept(), "22\n");
    let reason = "trust: its serial number: expected at least 22, found 9 (Policy::serial_file)";
    assert_eq!(whole_reason(&host.swap(plugin(9)).unwrap_err()), reason);

    // With both, the higher one holds.
    let both = trust_with(|policy| {
        policy.public_key = Some(it.key.clone());
        policy.serial_file = Some(it.serial_file());
        policy.serial_min = Some(30);
    });
    let reason = "its serial number: expected at least 30, found 29 (Policy::serial_min)";
    refused(plugin(29), &both, reason);
    accepted(plugin(30), &both);
    assert_eq!(it.kept(), "30\n");
}

#[test]
fn a_loader_keeps_the_highest_serial_number_too() {
    let it = Signed::new();
    let trust = it.trust_file("5");
    let loader = Loader::new(&trust).unwrap();
    let path = it.plugin("signed.so", "serial=6");
    let library = loader.open(&path).unwrap();
    assert_eq!(it.kept(), "6\n");
    assert_eq!(loader.libraries()[0].serial, Some(6));
    drop(library);
    let path = it.plugin("signed.so", "serial=5");
    let reason = "trust: its serial number: expected at least 6, found 5 (Policy::serial_file)";
    assert_eq!(whole_reason(&loader.open(&path).unwrap_err()), reason);
}

#[test]
fn a_file_without_a_number_is_a_refusal_and_no_zero() {
    let it = Signed::new();
    let path = it.plugin("signed.so", "serial=42");
    let file = it.serial_file();
    let its = format!("the highest serial number, in {}", file.display());
    let by = "(Policy::serial_file)";
    for (content, found) in [
        ("", r#""""#),
        ("\n", r#""\n""#),
        ("-1\n", r#""-1\n""#),
        ("7 8", r#""7 8""#),
        ("7\n\n", r#""7\n\n""#),
        ("seven", r#""seven""#),
        ("99999999999999999999", r#""99999999999999999999""#),
        ("\u{202e}7", r#""\u{202e}7""#),
    ] {
        let trust = it.trust_file(content);
        refused(
            &path,
            &trust,
            &format!("{its}: expected a number, found {found} {by}"),
        );
        assert_eq!(it.kept(), content);
    }
    let trust = it.trust_file("0000000000000000000000");
    let reason = format!("{its}: 22 bytes are more than the 21 that are accepted {by}");
    refused(&path, &trust, &reason);

    fs::remove_file(&file).unwrap();
    let reason = format!("{its}: no such file; one with `0` in it is a beginning {by}");
    refused(&path, &trust, &reason);
    symlink("nowhere", &file).unwrap();
    refused(
        &path,
        &trust,
        &format!("{its}: a symbolic link to nowhere {by}"),
    );
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    refused(
        &path,
        &trust,
        &format!("{its}: a directory, not a file {by}"),
    );
    fs::remove_dir(&file).unwrap();

    // Nor one that others could have written.
    let trust = it.trust_file("0");
    it.place.chmod("serial", 0o666);
    let reason = format!(
        "{} is writable by everybody; `chmod o-w` it",
        file.display()
    );
    refused(&path, &trust, &reason);
    assert_eq!(it.kept(), "0");
    // It keeps its rights, and a link leads to the same file as before.
    it.place.chmod("serial", 0o640);
    fs::rename(&file, it.place.at("real")).unwrap();
    symlink("real", &file).unwrap();
    accepted(&path, &trust);
    assert_eq!(it.kept(), "42\n");
    let real = fs::symlink_metadata(it.place.at("real")).unwrap();
    assert_eq!(real.permissions().mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
}

/// The root of a policy is for plugins. A state folder may lie elsewhere, and be mounted `noexec`.
#[test]
fn the_file_may_lie_outside_of_the_root() {
    let it = Signed::new();
    fs::create_dir(it.place.at("root")).unwrap();
    let path = it.plugin("root/signed.so", "serial=1");
    it.trust_file("0");
    let trust = trust_with(|policy| {
        policy.public_key = Some(it.key.clone());
        policy.serial_file = Some(it.serial_file());
        policy.root = Some(it.place.at("root"));
    });
    accepted(&path, &trust);
    assert_eq!(it.kept(), "1\n");
}

#[test]
fn a_relative_file_begins_where_it_was_given() {
    alone("signed::a_relative_file_begins_where_it_was_given", || {
        let it = Signed::new();
        let path = it.plugin("signed.so", "serial=7");
        fs::create_dir(it.place.at("other")).unwrap();
        fs::write(it.place.at("other/serial"), "99").unwrap();
        fs::write(it.serial_file(), "0").unwrap();
        env::set_current_dir(it.place.at("")).unwrap();
        let relative = || {
            trust_with(|policy| {
                policy.public_key = Some(it.key.clone());
                policy.serial_file = Some("serial".into());
            })
        };
        let trust = relative();
        env::set_current_dir(it.place.at("other")).unwrap();
        accepted(&path, &trust);
        assert_eq!(it.kept(), "7\n");
        let reason = "its serial number: expected at least 99, found 7 (Policy::serial_file)";
        refused(&path, &relative(), reason);
    });
}

/// Nothing that it waits for then keeps calls from the new generation.
#[test]
fn what_was_prepared_is_live_before_its_number_is_kept() {
    let it = Signed::new();
    let trust = it.trust_file("0");
    let first = it.place.at("first.so");
    fs::copy(plugin("build_1"), &first).unwrap();
    sign_with(&it.place, &it.pair, "first.so", Some("serial=1"));
    let host: Plugin = Hotswap::load(first, &trust).unwrap();
    let prepared = host.prepare(it.plugin("2.so", "serial=2")).unwrap();
    assert_eq!(build_of(&host), 1);
    // As another host that is writing to it.
    let lock = File::create(it.place.at("serial.new")).unwrap();
    lock.lock().unwrap();
    thread::scope(|scope| {
        let publishing = scope.spawn(|| prepared.publish());
        while build_of(&host) == 1 {
            assert!(!publishing.is_finished(), "it is published first");
            thread::yield_now();
        }
        drop(lock);
        assert_eq!(publishing.join().unwrap().generation, 2);
    });
    assert_eq!(it.kept(), "2\n");
}

#[test]
fn a_number_that_cannot_be_kept_refuses_the_candidate() {
    let it = Signed::new();
    let trust = it.trust_file("0");
    let plugin = |serial: u64| it.plugin(&format!("{serial}.so"), &format!("serial={serial}"));
    let host: Plugin = Hotswap::load(plugin(1), &trust).unwrap();
    // What is in the way is no file.
    let in_the_way = it.place.at("serial.new");
    fs::create_dir(&in_the_way).unwrap();
    let reason = format!(
        "host: the serial number 2 cannot be kept in {}: {} is not a regular file; remove it (Policy::serial_file)",
        it.serial_file().display(),
        in_the_way.display()
    );
    assert_eq!(whole_reason(&host.swap(plugin(2)).unwrap_err()), reason);
    assert_eq!(
        whole_reason(&Plugin::load(plugin(2), &trust).unwrap_err()),
        reason
    );
    assert_eq!(build_of(&host), 2);
    assert_eq!(host.generations().len(), 1);
    assert_eq!(fs::read_to_string(it.serial_file()).unwrap(), "1\n");

    // What was prepared cannot fail any more; there is an event.
    let swapped = host.prepare(plugin(2)).unwrap().publish();
    assert_eq!(swapped.generation, 2);
    let events: Vec<_> = host.events().try_iter().map(|it| it.to_string()).collect();
    assert!(
        events.contains(&format!("serial-not-kept generation 2: {reason}")),
        "{events:?}"
    );
    fs::remove_dir(&in_the_way).unwrap();
    host.swap(plugin(2)).unwrap();
    assert_eq!(it.kept(), "2\n");
}
