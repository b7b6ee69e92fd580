//! Which files the demo may load: [`Policy`] as options of the command line.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    num::{IntErrorKind, ParseIntError},
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Result, anyhow, bail, ensure};
use clap::Args;
use hotswap_core::{Event, EventKind, Policy, PublicKey, Sha256, reasons::ParseError};

#[derive(Args)]
pub(crate) struct TrustOptions {
    /// Only take plugins that lie inside of this folder, with all links followed
    #[arg(long, value_name = "DIR", value_parser = folder)]
    root: Option<PathBuf>,

    /// Only take plugins with this content (may be given several times)
    #[arg(long, value_name = "HEX")]
    sha256: Vec<Sha256>,

    /// Only take plugins that are signed (in PLUGIN.minisig) with this minisign key: base64, or a .pub file
    #[arg(long, value_name = "KEY_OR_FILE", value_parser = public_key)]
    public_key: Option<PublicKey>,

    /// Only take plugins whose signature has a serial number of at least this (`serial=42` in the trusted comment)
    #[arg(long, value_name = "NUMBER", requires = "public_key", value_parser = whole_number::<u64>)]
    serial_min: Option<u64>,

    /// Only take plugins whose serial number is at least the one in this file, and keep the highest there (`0` to
    /// begin)
    #[arg(long, value_name = "FILE", requires = "public_key")]
    serial_file: Option<PathBuf>,

    /// Take no plugin whose code has crashed the demo before, by the records in this folder, and keep them there
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub(crate) avoid_crashed: Option<PathBuf>,

    /// Trust files of this user, too (may be given several times)
    #[arg(long, value_name = "UID", value_parser = user)]
    trust_uid: Vec<u32>,

    /// Trust files that members of this group can write, too (may be given several times)
    #[arg(long, value_name = "GID", value_parser = group)]
    trust_gid: Vec<u32>,

    /// Do not look at who owns and who can write plugins and the folders that lead to them
    #[arg(long)]
    any_owner: bool,

    /// Follow no symbolic links
    #[arg(long)]
    no_links: bool,
}

impl TrustOptions {
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            root: self.root.clone(),
            sha256: self.sha256.clone(),
            public_key: self.public_key.clone(),
            serial_min: self.serial_min,
            serial_file: self.serial_file.clone(),
            avoid_crashed: self.avoid_crashed.clone(),
            trusted_uids: self.trust_uid.clone(),
            trusted_gids: self.trust_gid.clone(),
            any_owner: self.any_owner,
            follow_links: !self.no_links,
            ..Policy::default()
        }
    }
}

/// The library names the field of a setting that decides something; here it is an option.
pub(crate) fn with_option(mut event: Event) -> Event {
    if let EventKind::Refused { setting, .. } | EventKind::SerialNotKept { setting, .. } =
        &mut event.kind
        && let Some(option) = setting.as_deref().and_then(option)
    {
        *setting = Some(option.to_owned());
    }
    event
}

fn option(setting: &str) -> Option<&'static str> {
    Some(match setting {
        "Policy::trusted_uids" => "--trust-uid",
        "Policy::trusted_gids" => "--trust-gid",
        "Policy::root" => "--root",
        "Policy::public_key" => "--public-key",
        "Policy::serial_min" => "--serial-min",
        "Policy::serial_file" => "--serial-file",
        "Policy::avoid_crashed" => "--avoid-crashed",
        "Policy::follow_links" => "--no-links",
        _ => return None,
    })
}

fn user(text: &str) -> Result<u32> {
    number(text, "a number, as `id -u NAME` prints it")
}

fn group(text: &str) -> Result<u32> {
    number(text, "a number, as `getent group NAME` prints it")
}

/// A number in digits.
pub(crate) fn whole_number<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T> {
    number(text, "a whole number, such as 3")
}

fn number<T: FromStr<Err = ParseIntError>>(text: &str, expected: &str) -> Result<T> {
    text.parse()
        .map_err(|error: ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow => anyhow!("this number is too large"),
            _ => anyhow!("expected {expected}"),
        })
}

fn folder(text: &str) -> Result<PathBuf> {
    let path = PathBuf::from(text);
    ensure!(path.exists(), "there is no such folder");
    ensure!(path.is_dir(), "not a folder");
    Ok(path)
}

/// The text of a .pub file takes some 100 bytes.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// A value that names a file is that file, and one that cannot be a key is meant to be one.
fn public_key(text: &str) -> Result<PublicKey> {
    let path = Path::new(text);
    if path.is_file() {
        // One line: the command line shows no cause of an error.
        let read = beginning(path).map_err(|error| anyhow!("it cannot be read: {error}"))?;
        return Ok(String::from_utf8_lossy(&read).parse()?);
    }
    text.parse().or_else(|error: ParseError| {
        let is_path = text.contains('/') || path.extension().is_some();
        match path.metadata() {
            Ok(_) => bail!("{text} is not a file"),
            Err(missing) if is_path && missing.kind() == ErrorKind::NotFound => {
                bail!("there is no file {text}; or {error}")
            }
            Err(missing) if is_path => bail!("{text} cannot be read: {missing}; or {error}"),
            Err(_) => Err(error.into()),
        }
    })
}

/// As much of a file as a key may take.
fn beginning(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
