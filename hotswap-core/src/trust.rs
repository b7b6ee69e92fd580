//! The one place where a host vouches for the files that it is going to load.

/// A promise about every file that will be loaded with it.
///
/// Loading a plugin runs its author's code with all the rights of this process, and no check can make
/// that safe. So somebody has to say so, once: the host, in its `main`. Everything that takes a `Trust`
/// is safe to call.
///
/// ```no_run
/// use hotswap_core::{Policy, Trust};
///
/// // SAFETY: only our deploy user can write to the folder that the paths come from, and what is
/// // deployed there is built from our own repository.
/// let trust = unsafe { Trust::vouch(Policy::default()) };
/// ```
#[derive(Clone, Debug)]
pub struct Trust {
    policy: Policy,
}

/// What is asked of a candidate before anything of it is read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policy {
    /// The largest file that is accepted, in bytes. A larger one is refused before it is copied.
    ///
    /// 1 GiB unless set.
    pub file_bytes_max: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            file_bytes_max: 1 << 30,
        }
    }
}

impl Trust {
    /// Vouches for every file that passes `policy`.
    ///
    /// # Safety
    ///
    /// You promise, for every file that is loaded with this value and passes the checks:
    ///
    /// - **Its code is sound.** Running its initialisers, its exported functions and its destructors has
    ///   no undefined behaviour when they are used as their types say.
    /// - **Its types are what they say.** The layouts that it exports (abi_stable derives them) describe
    ///   the values that it exports.
    /// - **It does not unload others**, nor keeps pointers into host memory for longer than it may.
    ///
    /// And for the closures that you give to [`with`](crate::Hotswap::with): nothing that points into a
    /// plugin outlives the call through a **captured** variable. Return values are checked by the
    /// compiler ([`HostOwned`](crate::HostOwned)); what you store elsewhere from inside the closure is
    /// not. An abi_stable value such as an `RString`, a function pointer or a copy of the root module is
    /// `'static` for the compiler, but its code and its statics leave with the plugin.
    ///
    /// Still safely refused, whatever you promise: paths that are no regular files, files that are not
    /// loadable on this machine, that export no root module, whose abi_stable or interface version does
    /// not match, or whose types differ from the host's.
    pub unsafe fn vouch(policy: Policy) -> Self {
        Self { policy }
    }

    /// What is asked of a candidate.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}
