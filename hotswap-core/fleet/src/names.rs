//! How buckets, streams, subjects and keys are called at the server.

/// Bucket of the object store with the plugins.
pub(crate) const PLUGINS: &str = "hotswap_plugins";
/// The stream that this bucket is.
pub(crate) const PLUGINS_STREAM: &str = "OBJ_hotswap_plugins";
/// Bucket with one roll-out for each plugin, and its history.
pub(crate) const ROLLOUTS: &str = "hotswap_rollouts";
/// The stream that this bucket is.
pub(crate) const ROLLOUTS_STREAM: &str = "KV_hotswap_rollouts";
/// Bucket with the last status of each host.
pub(crate) const HOSTS: &str = "hotswap_hosts";
/// The stream that this bucket is.
pub(crate) const HOSTS_STREAM: &str = "KV_hotswap_hosts";
/// The stream that events are appended to.
pub(crate) const LOG: &str = "HOTSWAP_LOG";

/// The object that holds the plugin with this digest.
pub(crate) fn object(sha256: &str) -> String {
    format!("plugins/{sha256}")
}

/// The digest of the plugin that is in the object of this name.
pub(crate) fn plugin_in(object: &str) -> Option<&str> {
    object.strip_prefix("plugins/")
}

/// The subject of what describes the objects.
pub(crate) fn descriptions_subject() -> String {
    format!("$O.{PLUGINS}.M.>")
}

/// The subject of an object's chunks.
pub(crate) fn chunks_subject(nuid: &str) -> String {
    format!("$O.{PLUGINS}.C.{nuid}")
}

/// The subject on which a change of a roll-out is published, besides being stored.
pub(crate) fn rollout_subject(plugin: &str) -> String {
    format!("$KV.{ROLLOUTS}.{plugin}")
}

/// The subject of a host's status.
pub(crate) fn host_subject(host: &str, plugin: &str) -> String {
    format!("$KV.{HOSTS}.{host}.{plugin}")
}

/// The subject of a host's log.
pub(crate) fn log_subject(host: &str, plugin: &str) -> String {
    format!("hotswap.log.{host}.{plugin}")
}

/// The host in a subject of a status or of a log. What a host says is said under a subject that it may write to; the
/// name in what it says may be any.
pub(crate) fn host_in(subject: &str) -> Option<&str> {
    let mut words = subject.rsplit('.');
    let _plugin = words.next()?;
    words.next()
}

/// Checks a name of a plugin or a host, which is part of subjects.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), String> {
    let is_allowed = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
    if name.is_empty() || name.len() > 128 || !name.bytes().all(is_allowed) {
        return Err(format!(
            "the name of the {what} is {name:?}; it may have letters, digits, `-` and `_`, and up to 128 of them"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_the_name_of_its_host() {
        for subject in [
            log_subject("web-1", "rules"),
            host_subject("web-1", "rules"),
        ] {
            assert_eq!(host_in(&subject), Some("web-1"));
        }
        assert_eq!(host_in("a"), None);
    }

    #[test]
    fn names_cannot_reach_into_other_subjects() {
        for name in ["rules", "web-1_b", "A9"] {
            assert_eq!(check_name("host", name), Ok(()));
        }
        for name in ["", "a.b", "*", ">", "a b", "ü", "a\n", &"a".repeat(129)] {
            assert!(check_name("host", name).is_err(), "{name:?}");
        }
    }
}
