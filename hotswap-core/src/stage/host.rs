//! The users that a host trusts by default: those who could replace its own code.

use crate::system::users;

/// The ids of this process and of its executable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    real_uid: u32,
    effective_uid: u32,
    /// `None` if the process cannot see it, because it has changed its user; then the owner is not trusted.
    executable_owner: Option<u32>,
    /// Whether the process has rights that the user who started it may not have.
    is_privileged: bool,
    pub(super) unmapped_uid: u32,
}

impl Host {
    pub(super) fn this() -> Self {
        Self {
            real_uid: users::real_uid(),
            effective_uid: users::effective_uid(),
            executable_owner: users::executable_owner(),
            is_privileged: users::is_privileged(),
            unmapped_uid: users::unmapped_uid(),
        }
    }

    /// Root, the user that the process runs as, and the owner of its executable, except two:
    ///
    /// - The user that stands for every user unknown to the user namespace: a file with this owner may belong to
    ///   anybody.
    /// - If the host has privileges of its own: the user who started it, unless that is root. Without such privileges
    ///   this is the effective user, who can do whatever the host can.
    pub(super) fn trusted_uids(self) -> Vec<u32> {
        let Self {
            real_uid,
            effective_uid,
            executable_owner,
            is_privileged,
            unmapped_uid,
        } = self;
        let is_trusted = |uid: &u32| *uid != unmapped_uid && !(is_privileged && *uid == real_uid);
        let by_host = [Some(effective_uid), executable_owner];
        let by_host = by_host.into_iter().flatten().filter(is_trusted);
        [0].into_iter().chain(by_host).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: u32 = 1000;
    const SERVICE: u32 = 200;
    const VENDOR: u32 = 300;
    const NOBODY: u32 = 65_534;

    /// A host that a service user started itself, with an executable owned by root.
    const HOST: Host = Host {
        real_uid: SERVICE,
        effective_uid: SERVICE,
        executable_owner: Some(0),
        is_privileged: false,
        unmapped_uid: NOBODY,
    };

    #[track_caller]
    fn check(host: Host, expected: &[u32]) {
        let mut found = host.trusted_uids();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, expected, "{host:?}");
    }

    #[test]
    fn the_user_that_it_runs_as_and_the_owner_of_the_executable_are_trusted() {
        check(HOST, &[0, SERVICE]);
        let executable_owner = Some(VENDOR);
        check(
            Host {
                executable_owner,
                ..HOST
            },
            &[0, SERVICE, VENDOR],
        );
        let executable_owner = None;
        check(
            Host {
                executable_owner,
                ..HOST
            },
            &[0, SERVICE],
        );
    }

    #[test]
    fn the_unmapped_user_is_not_trusted() {
        let unmapped = Host {
            real_uid: NOBODY,
            effective_uid: NOBODY,
            executable_owner: Some(NOBODY),
            ..HOST
        };
        check(unmapped, &[0]);
        // Whatever number stands for them on this system.
        let unmapped_uid = SERVICE;
        check(
            Host {
                unmapped_uid,
                ..HOST
            },
            &[0],
        );
    }

    #[test]
    fn the_user_who_started_a_privileged_host_is_not_trusted() {
        // Setgid, or capabilities of the file.
        let is_privileged = true;
        let ann = Host {
            real_uid: ANN,
            effective_uid: ANN,
            is_privileged,
            ..HOST
        };
        check(ann, &[0]);
        // Such a file loses its privileges when its owner writes to it: Ann cannot replace it.
        let executable_owner = Some(ANN);
        check(
            Host {
                executable_owner,
                ..ann
            },
            &[0],
        );
        let executable_owner = Some(VENDOR);
        check(
            Host {
                executable_owner,
                ..ann
            },
            &[0, VENDOR],
        );
        // Setuid.
        let effective_uid = SERVICE;
        check(
            Host {
                effective_uid,
                ..ann
            },
            &[0, SERVICE],
        );
        // Root may start what it likes.
        let root = Host {
            real_uid: 0,
            effective_uid: 0,
            ..ann
        };
        check(root, &[0]);
    }
}
