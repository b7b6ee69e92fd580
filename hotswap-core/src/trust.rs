//! `Trust`, the host's promise about the files that it loads, and `Policy`, what it requires of them.

use std::path::PathBuf;

use crate::{digest::Sha256, given::absolute, signature::PublicKey};

/// The host's promise that the files it loads are sound, with the [`Policy`] that they must pass.
///
/// Loading a plugin runs its author's code with all the rights of this process, and no check can make that safe. So
/// the host promises it once, in its `main`. All functions that take a `Trust` are safe to call.
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

/// The requirements that a candidate must meet before hotswap inspects it, and before any of its code runs.
///
/// By default, only users who could replace the host itself may have written the file:
///
/// - The file, every folder on its path and every symbolic link on the way belong to root, to the effective user of
///   this process, or to the owner of the host's executable. The last of these covers containers whose files are
///   mounted from outside.
/// - Nobody else can write to the file or to these folders. There are two exceptions. A folder with the sticky bit,
///   such as `/tmp`, may be writable by everybody, because users cannot move each other's files there. A group may have
///   write permission if it is root's, or the owner's private group: the primary group with the owner's name and no
///   other member, which many systems create for each user.
/// - These rules do not trust two users. One is the user who stands for all that a user namespace does not map
///   (`/proc/sys/kernel/overflowuid`, 65534), even if the process runs as this user. The other is the user who started
///   a process that has privileges of its own (setuid, setgid, file capabilities), unless that user is root.
/// - The file is not on a file system that is mounted `noexec`. The administrator wants no code to run from there, and
///   the private copy that hotswap loads would get around that.
///
/// Symbolic links are followed one by one, and the rules apply to the real path. The file that is opened is the file
/// that was checked: changing a name in the meantime has no effect.
///
/// The libraries that the file needs, directly and indirectly, must meet the same rules before any of their code runs
/// ([`plugins`](crate::docs::plugins) describes those that only the system's linker finds). `root` and `follow_links`
/// do not apply to libraries in the system's folders. `sha256` and `public_key` do not apply to libraries.
///
/// The owner's private group is recognised by its name and its list of members. Other users may have it as their
/// primary group; hotswap does not look for them, because a system cannot list all its users. A group may not write to
/// a file that has an access control list. A file system without owners, such as FAT, shows the owner that it was
/// mounted with.
///
/// The policy is a guard against **accidents**: a folder that was left open, a path that leads to the wrong file. It is
/// a guard against **malice** only as far as ownership, or a signature, decides who could have made the file. A file
/// that passes runs with all the rights of this process.
///
/// ```
/// use hotswap_core::Policy;
///
/// let policy = Policy {
///     root: Some("/srv/plugins".into()),
///     public_key: Some("RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".parse()?),
///     ..Policy::default()
/// };
/// # Ok::<(), hotswap_core::reasons::ParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    /// The largest file that is accepted, in bytes. A larger one is refused before it is copied. The default is 1 GiB.
    pub file_bytes_max: u64,
    /// The folder that the file must be in, at any depth, after all links are followed. It is resolved anew for each
    /// candidate, so it may be a link. A relative path is resolved when [`Trust::vouch`] is called. By default, the
    /// file may be in any folder.
    pub root: Option<PathBuf>,
    /// Whether symbolic links on the path are followed. If not, a path with a link is refused. The default is `true`.
    pub follow_links: bool,
    /// Users who are trusted in addition to root, the user of this process and the owner of its executable. By default,
    /// there are none.
    ///
    /// In a user namespace that does not map every user, uid 65534 stands for all others. It is never trusted there,
    /// even if it is in this list or is the user of the process.
    pub trusted_uids: Vec<u32>,
    /// Groups whose members are all trusted to write, in addition to root's group and the private groups of trusted
    /// users. By default, there are none. What [`trusted_uids`](Self::trusted_uids) says of uid 65534 applies to gid
    /// 65534.
    pub trusted_gids: Vec<u32>,
    /// Whether anybody may own, and be able to write, the file, its folders and links. Use it for file systems without
    /// owners, and where `sha256` or `public_key` decides. The default is `false`.
    pub any_owner: bool,
    /// The hashes that are accepted. The bytes that are hashed are the bytes that are loaded. By default, the list is
    /// empty, which accepts every file.
    pub sha256: Vec<Sha256>,
    /// The key that must have signed the file, as `minisign -Sm FILE` does. The bytes that are verified are the bytes
    /// that are loaded. By default, no signature is required.
    ///
    /// The signature is in `FILE.minisig` beside the *real* file, and must meet the same rules, `root` included. It is
    /// not looked for beside a link: the link could change while hotswap reads, and pair a file with the signature of
    /// another. A candidate is refused until both files are in place.
    #[doc(alias("minisign", "sign"))]
    pub public_key: Option<PublicKey>,
    /// The lowest serial number that the file may have. It prevents that somebody replaces a file by an older one that
    /// is also signed. By default, no serial number is required. It needs `public_key`.
    ///
    /// The signer writes the number into the signature's *trusted comment*, which is signed, too:
    /// `minisign -Sm FILE -t 'serial=42'`. The comment may contain other text. A
    /// [`rollback`](crate::Hotswap::rollback) is always allowed, because it returns to a file that was accepted here.
    ///
    /// A comment may also say when the file expires, as in `expires=2027-01-31T00:00:00Z`. An expiry applies even if
    /// this setting is `None`. A `serial` or an `expires` that cannot be parsed, or that occurs twice, is refused.
    pub serial_min: Option<u64>,
    /// A file that contains the highest serial number accepted so far, which is the lowest that the next candidate may
    /// have. By default, there is none. It needs `public_key`.
    ///
    /// When a candidate with a higher number is accepted, hotswap writes its number to the file: just before the
    /// candidate is published, or just after if it was [prepared](crate::Hotswap::prepare). A trial,
    /// [`check`](crate::check::check) and a rollback write nothing.
    ///
    /// The file must exist and contain a number; `echo 0` makes the first one. It must meet the same rules as a plugin,
    /// except `root`. If it is missing, unreadable or damaged, every candidate is refused. hotswap replaces the file as
    /// a whole, so the host must be able to write to its folder, where `FILE.new` appears for a moment. A relative path
    /// is resolved when [`Trust::vouch`] is called. Several hosts may share the file, and should then run as one user:
    /// the file belongs to the last one who wrote it, except that root keeps its owner.
    ///
    /// When the number rises, a swap waits for the disk, and for other hosts that write to the file. While somebody has
    /// the file open for writing, every swap waits, for up to ten seconds; after that, the candidate is refused.
    ///
    /// The protection is as good as the file and the clock: a host that is restored from a backup has its old number
    /// again, and a host whose clock is set back accepts expired files.
    pub serial_file: Option<PathBuf>,
    /// The folder in which [`crash::install_handler`](crate::crash::install_handler) records the plugins that crashed
    /// this process. A candidate that is recorded there is refused, also by the next process. By default, nothing is
    /// recorded.
    ///
    /// The folder must exist. Only the host should be able to write to it, because its files decide what is refused.
    /// Each file in it is named after the SHA-256 of a plugin, and contains a line for each crash. Remove a file to
    /// allow its plugin again. With this setting, hotswap computes the SHA-256 of each candidate ([`Sha256::of`] gives
    /// the cost).
    pub avoid_crashed: Option<PathBuf>,
    /// Libraries that do not call a plugin after its calls have returned, in addition to those that hotswap knows. A
    /// plugin that needs one of them can be unloaded. An entry is a file name, with or without `.so` and what follows
    /// it: `"libpool"`. By default, there are none. See [`PinReason::Library`](crate::event::PinReason::Library).
    ///
    /// Such a library stays mapped if it can start threads, because they may run on. The next plugin is given the same
    /// one, also if its file was replaced.
    pub harmless_libraries: Vec<String>,
    /// Libraries that may call a plugin for as long as they are mapped, in addition to those that hotswap knows. A
    /// plugin that needs one of them stays mapped. By default, there are none.
    pub pinning_libraries: Vec<String>,
    /// Whether hotswap removes two marks from the private copy of a plugin that has `unloadable!`. Both make the system
    /// keep an image mapped for good, so each swap would leave a pinned image behind. The default is `true`.
    ///
    /// The marks are `-z nodelete` (`DF_1_NODELETE`), which compilers and build scripts may set for every library, and
    /// unique symbols (`STB_GNU_UNIQUE`), which g++ makes for the inline statics of C++. Unique symbols become weak
    /// symbols.
    ///
    /// Costs nothing if a plugin has no such marks. If it has, the copy differs from the file in its dynamic table and
    /// its symbol table, never in code or data. Pins, signatures and all reported hashes are those of the file.
    ///
    /// Unique symbols are left alone in two cases: if the plugin needs more libraries than those of the C and C++
    /// runtime, with which it may share what the symbols stand for; and if it needs libstdc++ and defines unique
    /// symbols of namespace `std`. With this setting, two *plugins* no longer share a C++ static by a unique symbol.
    /// Set it to `false` if you rely on that.
    pub clear_nodelete: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            file_bytes_max: 1 << 30,
            root: None,
            follow_links: true,
            trusted_uids: Vec::new(),
            trusted_gids: Vec::new(),
            any_owner: false,
            sha256: Vec::new(),
            public_key: None,
            serial_min: None,
            serial_file: None,
            avoid_crashed: None,
            harmless_libraries: Vec::new(),
            pinning_libraries: Vec::new(),
            clear_nodelete: true,
        }
    }
}

impl Trust {
    /// Vouches for every file that passes `policy`.
    ///
    /// # Safety
    ///
    /// You promise, for every file that is loaded with this value and passes the checks, here or in the child
    /// process of a [`Trial`](crate::Trial):
    ///
    /// - **Its code is sound, and so is that of the libraries that it needs.** Running its initialisers, its exported
    ///   functions and its destructors has no undefined behaviour when they are used as their types say.
    /// - **Its types are what they say.** The layouts that it exports (abi_stable derives them) describe the values
    ///   that it exports, and the descriptions that `#[plugin]` and `#[export]` write describe its functions.
    /// - **It does not unload others**, nor keeps pointers into host memory for longer than it may.
    ///
    /// You also promise, for all code of the host that is lent a value of a plugin with a raw root module, that it
    /// **does not use the value after the call, or without the lease, that lent it**. That code is the closures that
    /// you pass to [`Hotswap::with`](crate::Hotswap::with), [`Lease::with`](crate::Lease::with),
    /// [`Lease::bind`](crate::Lease::bind), [`Symbol::with`](crate::loader::Symbol::with) and
    /// [`Library::c_function`](crate::loader::Library::c_function), and the host's [`Probe`](crate::Probe). An
    /// abi_stable value such as an `RString`, a function pointer or a copy of the root module is `'static` for the
    /// compiler, but its code and its statics leave with the plugin. Return values are checked
    /// ([`HostOwned`](crate::HostOwned)). The following ways are not checked. A value that gets out by one of them is
    /// called or dropped after its code was unloaded:
    ///
    /// - a **captured variable**, for example a `Vec` of the host that the closure pushes to;
    /// - a **panic's payload** (`panic_any`), which `catch_unwind` returns to the host;
    /// - a **thread** that the closure starts, or a scoped thread that runs already;
    /// - a **channel**;
    /// - a **static** or a thread-local of the host;
    /// - an **error's source**, or anything else behind a `Box<dyn Any>` or `Box<dyn Error>` that is stored by one of
    ///   the ways above;
    /// - **another generation's value**, if both have interior mutability and meet in one closure;
    /// - for a **probe**, all of these: a candidate that the probe refuses is unloaded at once.
    ///
    /// `policy` helps you to keep the promise: by default, only users who could also replace this program can have
    /// written the file. It cannot keep the promise for you. Ownership and signatures say who could have made a file;
    /// all other checks are against accidents, and none is against malice.
    ///
    /// The following are refused safely, whatever you promise: files that `policy` does not allow, paths that are not
    /// regular files, files that cannot be loaded on this machine or export no root module, and plugins whose
    /// abi_stable version, interface version or types do not match the host's.
    #[doc(alias("sandbox", "security", "unsafe"))]
    pub unsafe fn vouch(mut policy: Policy) -> Self {
        let Policy {
            root,
            serial_file,
            avoid_crashed,
            ..
        } = &mut policy;
        for path in [root, serial_file, avoid_crashed].into_iter().flatten() {
            // An empty path leads nowhere, so that everything is refused.
            *path = absolute(path).unwrap_or_default();
        }
        Self { policy }
    }

    /// The policy that was passed to [`vouch`](Self::vouch).
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}
