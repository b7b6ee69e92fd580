//! The one place where a host vouches for the files that it is going to load, and says what it asks of them.

use std::path::PathBuf;

use crate::{digest::Sha256, given::absolute, signature::PublicKey};

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
#[doc(alias("sandbox", "security"))]
pub struct Trust {
    policy: Policy,
}

/// What is asked of a candidate before it is looked into, and before anything of it can run.
///
/// By default that only those can have put it there who could replace the host itself:
///
/// - The file, every folder that leads to it and every symbolic link on the way belong to root, to the user as
///   whom this process runs (its effective one), or to the owner of the host's own executable. The last makes
///   a container work whose files are mounted into it from elsewhere.
/// - Nobody else can write to the file or to these folders. A folder in which people cannot move each other's
///   files (one with the sticky bit, such as `/tmp`) may be writable by anybody. A group may have the right to
///   write if it is root's, or the owner's very own: their primary one, of the same name, and with no other
///   member, which is what many systems give each user.
/// - Two users are not trusted by that: the one who stands for all that a user namespace does not know
///   (`/proc/sys/kernel/overflowuid`, 65534), whatever the process runs as; and, if the process has privileges of its
///   own (setuid, setgid, capabilities of its file), the one who has started it, unless that is root.
/// - It does not lie on a file system that is mounted `noexec`, where the administrator wants nothing to be run
///   from; the private copy that is loaded would not know.
///
/// Symbolic links are followed, one by one, and the real path is looked at. What was looked at is what is
/// opened: whoever gives a name to something else meanwhile cannot bring in a file that was not looked at.
///
/// The libraries that the file needs, itself and by way of others, are held to the same, before anything of them runs
/// (see [`plugins`](crate::docs::plugins) for those that only the system's linker finds). `root` and `follow_links` do
/// not count for those in the system's own folders, and `sha256` and `public_key` for none.
///
/// The user's very own group is known by its name and its list of members. Users whose primary group it is as
/// well are not looked for, for nobody can list them all. Access control lists are respected in so far as a
/// group may not write where there is one. A file system without owners, such as FAT, shows those that it was
/// mounted with.
///
/// This is a guard against **accidents**: a folder that was left open, a path that leads elsewhere than one
/// thought. It is a guard against **malice** only as far as ownership, or a signature, decides who could have
/// made the file. A file that passes runs with all the rights of this process.
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
    /// The largest file that is accepted, in bytes. A larger one is refused before it is copied.
    ///
    /// 1 GiB unless set.
    pub file_bytes_max: u64,
    /// The folder in which the file must lie, with all links followed, at whatever depth. It is looked up
    /// anew each time, so it may be a link itself. A relative one begins in the folder that is the current one when
    /// [`Trust::vouch`] is called.
    ///
    /// Any folder unless set.
    pub root: Option<PathBuf>,
    /// Whether a symbolic link on the way is followed, or refused.
    ///
    /// Followed unless set.
    pub follow_links: bool,
    /// Users who are trusted beside root, this process's own and the owner of its executable.
    ///
    /// In a user namespace that does not know every user, uid 65534 stands for all the others. It is not trusted there,
    /// whether it is named here or is the process's own.
    ///
    /// None unless set.
    pub trusted_uids: Vec<u32>,
    /// Groups of which every member is trusted to write, beside root's and a trusted user's very own. The same is true
    /// of gid 65534.
    ///
    /// None unless set.
    pub trusted_gids: Vec<u32>,
    /// Whether it does not matter who owns and who can write the file, the folders and the links. For file
    /// systems that know no owners, and where `sha256` or `public_key` decides.
    ///
    /// It does matter unless set.
    pub any_owner: bool,
    /// The file's bytes must have one of these. They are compared with the very bytes that are loaded.
    ///
    /// None unless set, which allows any bytes.
    pub sha256: Vec<Sha256>,
    /// The file's bytes, the very ones that are loaded, must be signed with this key: `minisign -Sm FILE`.
    ///
    /// The signature lies in `FILE.minisig` beside the *real* file, and the same is asked of its owners and its
    /// place. Not beside a link that led there: one that moves while we read would pair a file with the
    /// signature of another. Until both files are in place, the candidate is refused.
    ///
    /// No signature is asked for unless set.
    #[doc(alias("minisign", "sign"))]
    pub public_key: Option<PublicKey>,
    /// The lowest serial number that the file may have. Its signer puts it into the signature's *trusted comment*,
    /// which is signed too: `minisign -Sm FILE -t 'serial=42'`, or beside what else the comment says. It needs
    /// `public_key`.
    ///
    /// So nobody can put an older file in the place of a newer one, although both are signed. A
    /// [`rollback`](crate::Hotswap::rollback) is allowed: it goes back to what was accepted here.
    ///
    /// A comment may also say until when the file is accepted, `expires=2027-01-31T00:00:00Z`: that holds whatever the
    /// policy says. A `serial` or an `expires` that is not understood, or that comes twice, is a refusal.
    ///
    /// No serial number is asked for unless set.
    pub serial_min: Option<u64>,
    /// A file with the highest serial number that was accepted, which is the lowest that the next file may have. When a
    /// candidate is accepted, its number is kept there if it is higher: just before it is published, or just after if
    /// it was [prepared](crate::Hotswap::prepare). A trial, [`check`](crate::check::check) and a rollback write
    /// nothing. Several hosts may have one file. It needs `public_key`.
    ///
    /// The file must be there, with a number in it (`echo 0` for a beginning), and is asked for its owner and who can
    /// write to it, as a plugin is, but not for its place. One that is missing, unreadable or damaged is a refusal. It
    /// is replaced as a whole, so the host must be able to write to its folder, where `FILE.new` appears meanwhile. A
    /// relative path begins where that of [`root`](Self::root) does. Hosts that share the file should run as one user:
    /// it then belongs to whoever wrote it last, except that root leaves it to its owner.
    ///
    /// A swap waits for the disk when the number rises, and for other hosts that write to the file.
    ///
    /// It protects as far as the file and the clock can be trusted: a host that was restored from a backup has its old
    /// number again, and one whose clock was set back takes what has expired.
    ///
    /// None unless set.
    pub serial_file: Option<PathBuf>,
    /// A folder of crashes, in which [`crash::install_handler`](crate::crash::install_handler) records of which bytes
    /// this process has crashed. A candidate that is recorded there is refused, also by the next process. It has to be
    /// there, and nobody but the host should be able to write to it: who can, decides what is refused.
    ///
    /// A file in it is named after the SHA-256 of a plugin, and contains the line of each crash. Remove it to have
    /// those bytes tried again. With this setting, the SHA-256 of each candidate is computed ([`Sha256::of`] says what
    /// that costs).
    ///
    /// Nothing is recorded unless set.
    pub avoid_crashed: Option<PathBuf>,
    /// Libraries of which the host knows that they call nothing of a plugin any more when its calls have returned,
    /// beside those that hotswap knows: file names, with or without what follows `.so` (`"libpool"`). A plugin that
    /// needs one of them can be unloaded. See [`PinReason::Library`](crate::event::PinReason::Library).
    ///
    /// None unless set.
    pub harmless_libraries: Vec<String>,
    /// Libraries of which the host knows that they may call a plugin as long as they are mapped, beside those that
    /// hotswap knows. A plugin that needs one of them stays mapped.
    ///
    /// None unless set.
    pub pinning_libraries: Vec<String>,
    /// Whether marks by which the system keeps an image mapped for good are taken away in the private copy of a plugin
    /// that has `unloadable!`: `-z nodelete` (`DF_1_NODELETE`), which compilers and build scripts may set for
    /// every library, and unique symbols (`STB_GNU_UNIQUE`, the inline statics of C++ as g++ builds them), which
    /// become weak ones. Without that, each swap leaves an image behind, pinned.
    ///
    /// Costs nothing where there are no such marks. Where there are, the code that runs has not quite the bytes of the
    /// file: some of its dynamic table and its symbol table, never code or data. Pins, signatures and every hash that
    /// is reported are of the file. It does not apply to files without `unloadable!`, nor to unique symbols of a plugin
    /// that needs more libraries than those of the C and C++ runtime, with which it may share what they stand for, or
    /// that defines some of libstdc++'s own. A C++ static that two *plugins* share by this mechanism is no longer one
    /// static: unset this if you count on that.
    ///
    /// They are taken away unless set to `false`.
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
    /// And you promise, for all code of the host that is given something of a plugin with a raw root module, that
    /// **nothing of it is used after the call, or without the lease, that lent it**. That code is the closures that
    /// you give to [`Hotswap::with`](crate::Hotswap::with), [`Lease::with`](crate::Lease::with),
    /// [`Lease::bind`](crate::Lease::bind), [`Symbol::with`](crate::loader::Symbol::with) and
    /// [`Library::c_function`](crate::loader::Library::c_function), and the host's [`Probe`](crate::Probe). An
    /// abi_stable value such as an `RString`, a function pointer or a copy of the root module is `'static` for the
    /// compiler, but its code and its statics leave with the plugin. What is returned is checked
    /// ([`HostOwned`](crate::HostOwned)). These ways out are not, and a value that has taken one of them is called or
    /// dropped after its code has left:
    ///
    /// - a **captured variable**, for example a `Vec` of the host's into which the closure pushes;
    /// - a **panic's payload** (`panic_any`), which `catch_unwind` gives to the host;
    /// - a **thread** that the closure starts, or a scoped one that is there already;
    /// - a **channel**;
    /// - a **static** or a thread-local of the host's;
    /// - an **error's source**, or anything else behind a `Box<dyn Any>` or `Box<dyn Error>` that is stored by one of
    ///   the ways above;
    /// - **another generation's value**, if both have interior mutability and meet in one closure;
    /// - for a **probe**, all of these: a candidate that it refuses leaves at once.
    ///
    /// `policy` helps you to keep the promise: by default, nobody can have put the file there who could not
    /// replace this program as well. It cannot make it for you. Apart from ownership and a signature, which
    /// tell who could have made a file, all checks are against accidents and none is against malice.
    ///
    /// Still safely refused, whatever you promise: files that `policy` does not allow, paths that are no
    /// regular files, files that are not loadable on this machine, that export no root module, whose
    /// abi_stable or interface version does not match, or whose types differ from the host's.
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

    /// What is asked of a candidate.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}
