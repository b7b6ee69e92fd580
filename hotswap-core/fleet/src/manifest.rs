//! What the signature of a plugin says of it.
//!
//! A plugin is signed with minisign. The trusted comment, which is signed with it, is the manifest: words such as
//! `name=rules serial=42 interface=rules-0.2 floor=40 expires=2027-01-31T00:00:00Z`.

use std::time::SystemTime;

use hotswap_core::PublicKey;
use serde::Serialize;

/// What the signature of a plugin says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// `name=`: the plugin that it is a build of.
    pub name: String,
    /// `serial=`: a later build has a higher one.
    pub serial: u64,
    /// `interface=`: what it was built for, in words that a host can compare.
    pub interface: Option<String>,
    /// `floor=`: once a host keeps this build, it refuses those with a lower serial number.
    pub floor: Option<u64>,
    /// `expires=`: from when on it is refused.
    pub expires: Option<SystemTime>,
}

impl Manifest {
    /// Reads the manifest in a signature, if it is one of these bytes by this key.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn verified(key: &PublicKey, bytes: &[u8], signature: &str) -> Result<Self, String> {
        let key = minisign_verify::PublicKey::from_base64(&key.to_string())
            .map_err(|error| format!("the public key: {error}"))?;
        let signature = minisign_verify::Signature::decode(signature)
            .map_err(|_| "not a minisign signature".to_owned())?;
        key.verify(bytes, &signature, false)
            .map_err(|error| error.to_string())?;
        Self::read(signature.trusted_comment())
    }

    /// Reads a trusted comment. Words without `=`, and those with other names, are for people.
    fn read(comment: &str) -> Result<Self, String> {
        let word = |name: &str| -> Result<Option<&str>, String> {
            let values = comment.split_whitespace().filter_map(|word| {
                let (key, value) = word.split_once('=')?;
                (key == name).then_some(value)
            });
            let values: Vec<_> = values.collect();
            match values[..] {
                [] => Ok(None),
                [""] => Err(format!("its manifest has an empty `{name}`")),
                [value] => Ok(Some(value)),
                _ => Err(format!("its manifest has a second `{name}`")),
            }
        };
        let number = |name: &str| -> Result<Option<u64>, String> {
            let parse = |it: &str| {
                let is_number = it.bytes().all(|byte| byte.is_ascii_digit());
                let number = it.parse().ok().filter(|_| is_number);
                number.ok_or_else(|| format!("`{name}={it}` of its manifest is not a number"))
            };
            word(name)?.map(parse).transpose()
        };
        let missing = |name| format!("its manifest has no `{name}=`");
        let expires = word("expires")?.map(|it| {
            humantime::parse_rfc3339(it)
                .map_err(|_| format!("`expires={it}` of its manifest is not a time in UTC"))
        });
        Ok(Self {
            name: word("name")?.ok_or_else(|| missing("name"))?.to_owned(),
            serial: number("serial")?.ok_or_else(|| missing("serial"))?,
            interface: word("interface")?.map(str::to_owned),
            floor: number("floor")?,
            expires: expires.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(comment: &str) -> (PublicKey, String) {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let signature = minisign::sign(Some(&pair.pk), &pair.sk, &b"so"[..], Some(comment), None);
        let key = pair.pk.to_base64().parse().unwrap();
        (key, signature.unwrap().into_string())
    }

    #[test]
    fn it_is_in_the_trusted_comment() {
        let comment = "release 7: name=rules serial=42 interface=rules-0.2 floor=40 expires=2027-01-31T00:00:00Z";
        let (key, signature) = signed(comment);
        let manifest = Manifest::verified(&key, b"so", &signature).unwrap();
        let expected = Manifest {
            name: "rules".to_owned(),
            serial: 42,
            interface: Some("rules-0.2".to_owned()),
            floor: Some(40),
            expires: Some(humantime::parse_rfc3339("2027-01-31T00:00:00Z").unwrap()),
        };
        assert_eq!(manifest, expected);
    }

    #[test]
    fn nothing_is_read_from_what_is_not_signed() {
        let (key, signature) = signed("name=rules serial=42");
        for (bytes, signature) in [
            (&b"os"[..], signature.clone()),
            (b"so", signature.replace("serial=42", "serial=43")),
            (b"so", String::new()),
            (b"so", signed("name=rules serial=42").1),
        ] {
            assert!(Manifest::verified(&key, bytes, &signature).is_err());
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (comment, problem) in [
            ("serial=1", "its manifest has no `name=`"),
            ("name=a", "its manifest has no `serial=`"),
            (
                "name=a serial=-1",
                "`serial=-1` of its manifest is not a number",
            ),
            (
                "name=a serial=1 serial=2",
                "its manifest has a second `serial`",
            ),
            ("name= serial=1", "its manifest has an empty `name`"),
            (
                "name=a serial=1 floor=x",
                "`floor=x` of its manifest is not a number",
            ),
            (
                "name=a serial=1 expires=soon",
                "`expires=soon` of its manifest is not a time in UTC",
            ),
        ] {
            assert_eq!(Manifest::read(comment), Err(problem.to_owned()));
        }
    }
}
