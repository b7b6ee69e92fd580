//! The descriptors that a process has open, and what they lead to.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
};

use super::{connection::Connection, memory_file, proc::DESCRIPTORS};

/// Open descriptors, each with what the system says of it, such as `/dev/null` or `socket:[4711]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open(BTreeMap<RawFd, String>);

/// What changed between two snapshots of the descriptors.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DescriptorChange {
    /// Open now, but not before.
    Gained(Vec<String>),
    /// Not open any more, or leading elsewhere.
    Lost(Vec<String>),
}

impl Open {
    /// The descriptors that are open now, without memory files of this name.
    pub(crate) fn now(memory_file: &str) -> io::Result<Self> {
        let mut open = BTreeMap::new();
        for number in numbers()? {
            let Ok(target) = fs::read_link(path(number)) else {
                continue;
            };
            let target = target.to_string_lossy();
            if memory_file::name_in(&target) != Some(memory_file) {
                open.insert(number, target.into_owned());
            }
        }
        Ok(Self(open))
    }

    /// The change from `self` to `after`. If descriptors were both lost and gained, it returns those that were lost.
    pub(crate) fn change(&self, after: &Self) -> Option<DescriptorChange> {
        let only_in = |a: &Self, b: &Self| -> Vec<String> {
            let only =
                a.0.iter()
                    .filter(|(number, target)| b.0.get(number) != Some(target));
            only.map(|(number, target)| format!("{number} ({target})"))
                .collect()
        };
        let (lost, gained) = (only_in(self, after), only_in(after, self));
        if !lost.is_empty() {
            Some(DescriptorChange::Lost(lost))
        } else if !gained.is_empty() {
            Some(DescriptorChange::Gained(gained))
        } else {
            None
        }
    }
}

/// Closes all descriptors except the standard streams and these two.
///
/// # Errors
/// The system does not list them; the error says where.
///
/// # Safety
/// Nothing in this process owns or uses the others.
pub(crate) unsafe fn close_all_but(file: &File, connection: &Connection) -> io::Result<()> {
    let kept = [file.as_fd(), connection.as_fd()];
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("{DESCRIPTORS}: {error}"));
    for number in numbers().map_err(failed)? {
        let is_kept = number <= 2 || kept.iter().any(|it| it.as_raw_fd() == number);
        // One of the numbers is the folder's own descriptor, which is closed by now.
        if !is_kept && fs::read_link(path(number)).is_ok() {
            // SAFETY: nothing owns or uses it (`# Safety` of this function).
            unsafe { rustix::io::close(number) };
        }
    }
    Ok(())
}

/// The descriptors that are open, and that of the folder, which is open only while this reads it.
fn numbers() -> io::Result<Vec<RawFd>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(DESCRIPTORS)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|it| it.parse::<RawFd>().ok()));
    }
    Ok(numbers)
}

fn path(number: RawFd) -> String {
    format!("{DESCRIPTORS}/{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(all: &[(RawFd, &str)]) -> Open {
        Open(
            all.iter()
                .map(|(number, target)| (*number, (*target).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn changes() {
        let before = open(&[(0, "/dev/null"), (3, "socket:[1]")]);
        assert_eq!(before.change(&before.clone()), None);
        let more = open(&[(0, "/dev/null"), (3, "socket:[1]"), (4, "/tmp/x")]);
        assert_eq!(
            before.change(&more),
            Some(DescriptorChange::Gained(vec!["4 (/tmp/x)".to_owned()]))
        );
        assert_eq!(
            more.change(&before),
            Some(DescriptorChange::Lost(vec!["4 (/tmp/x)".to_owned()]))
        );
        let other = open(&[(0, "/tmp/x"), (3, "socket:[1]")]);
        assert_eq!(
            before.change(&other),
            Some(DescriptorChange::Lost(vec!["0 (/dev/null)".to_owned()]))
        );
    }

    #[test]
    fn open_descriptors_are_listed() {
        let file = fs::File::open("/dev/null").unwrap();
        let open = Open::now("none").unwrap();
        assert_eq!(
            open.0.get(&file.as_raw_fd()).map(String::as_str),
            Some("/dev/null")
        );
    }
}
