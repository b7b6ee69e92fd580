//! Users and groups: none is asked for.

/// Stands for every user and group.
const NOBODY: u32 = u32::MAX;

pub(crate) fn real_uid() -> u32 {
    NOBODY
}

pub(crate) fn effective_uid() -> u32 {
    NOBODY
}

pub(crate) fn executable_owner() -> Option<u32> {
    None
}

pub(crate) fn is_privileged() -> bool {
    false
}

pub(crate) fn unmapped_uid() -> u32 {
    NOBODY
}

pub(crate) fn unmapped_gid() -> u32 {
    NOBODY
}

pub(crate) fn has_unmapped_users() -> bool {
    true
}

pub(crate) fn has_unmapped_groups() -> bool {
    true
}

pub(crate) fn group_name(_: u32) -> Option<String> {
    None
}

pub(crate) fn is_private_group(_: u32, _: u32) -> bool {
    false
}
