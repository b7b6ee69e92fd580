//! What the system knows of this process.

use std::{collections::BTreeSet, fs, mem::offset_of, ops::Range, path::PathBuf, thread};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, EAGAIN, SECCOMP_FILTER_FLAG_TSYNC,
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_SET_MODE_FILTER, SYS_clone, SYS_clone3,
    SYS_seccomp, c_int, c_long, seccomp_data, sock_filter, sock_fprog,
};

/// Resident memory of the process and of memory files. Pages of the test's executable are not counted:
/// the system drops them and reads them again as it likes.
pub(crate) fn resident_bytes() -> u64 {
    status_bytes("RssAnon:") + status_bytes("RssShmem:")
}

/// A size that the system gives under this name.
pub(crate) fn status_bytes(name: &str) -> u64 {
    let size = status_of(None, name);
    let kib = size.split_whitespace().next().expect("a number");
    kib.parse::<u64>().expect("a number") * 1024
}

/// What the system says of a thread under this name. `None`: of the calling thread.
pub(crate) fn status_of(thread: Option<&str>, name: &str) -> String {
    let path = match thread {
        None => "/proc/thread-self/status".to_owned(),
        Some(number) => format!("/proc/self/task/{number}/status"),
    };
    let status = fs::read_to_string(path).expect("/proc");
    let mut lines = status.lines();
    let found = lines.find_map(|line| line.strip_prefix(name));
    found.expect("it is in every status").trim().to_owned()
}

/// Where images of plugins are mapped, one range for each image.
pub(crate) fn images() -> Vec<Range<usize>> {
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc");
    let mut images: Vec<(String, Range<usize>)> = Vec::new();
    for line in maps.lines().filter(|line| line.contains("/memfd:")) {
        let mut words = line.split_whitespace();
        let (start, end) = words
            .next()
            .and_then(|range| range.split_once('-'))
            .expect("a range");
        let parse = |hex| usize::from_str_radix(hex, 16).expect("an address");
        let (range, inode) = (
            parse(start)..parse(end),
            words.nth(3).expect("an inode").to_owned(),
        );
        match images.iter_mut().find(|(known, _)| *known == inode) {
            Some((_, image)) => image.end = range.end,
            None => images.push((inode, range)),
        }
    }
    images.into_iter().map(|(_, image)| image).collect()
}

pub(crate) fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

pub(crate) fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("/proc").count()
}

/// The numbers of those that have opened an image, and of one that waits for the next image.
pub(crate) fn openers() -> BTreeSet<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc");
    let is_opener = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|it| it.trim_end() == "hotswap-loader")
    };
    let openers = tasks
        .map(|task| task.expect("/proc").path())
        .filter(is_opener);
    openers
        .filter_map(|task| Some(task.file_name()?.to_str()?.to_owned()))
        .collect()
}

/// How many pthread keys the process has in use: as many as are missing when all others are taken.
pub(crate) fn keys_in_use() -> usize {
    /// `PTHREAD_KEYS_MAX` of glibc.
    const KEYS_MAX: usize = 1024;
    let mut taken = Vec::new();
    let mut key = 0;
    // SAFETY: a place for the key, which has no destructor.
    while unsafe { libc::pthread_key_create(&raw mut key, None) } == 0 {
        taken.push(key);
    }
    for &key in &taken {
        // SAFETY: made above, and given to nobody.
        unsafe { libc::pthread_key_delete(key) };
    }
    KEYS_MAX - taken.len()
}

/// As at the limit of threads, which does not hold for root: none starts any more, for good.
pub(crate) fn deny_threads() {
    deny([SYS_clone, SYS_clone3], EAGAIN);
    assert!(thread::Builder::new().spawn(|| ()).is_err());
}

/// As in a sandbox: from now on, these system calls do nothing but fail with `error`, for all threads.
pub(crate) fn deny(calls: [c_long; 2], error: c_int) {
    let step = |code: u32, then: u8, k: u32| sock_filter {
        code: code as u16,
        jt: then,
        jf: 0,
        k,
    };
    let number = offset_of!(seccomp_data, nr) as u32;
    let mut steps = [
        step(BPF_LD | BPF_W | BPF_ABS, 0, number),
        step(BPF_JMP | BPF_JEQ | BPF_K, 2, calls[0] as u32),
        step(BPF_JMP | BPF_JEQ | BPF_K, 1, calls[1] as u32),
        step(BPF_RET | BPF_K, 0, SECCOMP_RET_ALLOW),
        step(BPF_RET | BPF_K, 0, SECCOMP_RET_ERRNO | error as u32),
    ];
    let filter = sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    rustix::thread::set_no_new_privs(true).unwrap();
    // For all threads of the process.
    let flags = SECCOMP_FILTER_FLAG_TSYNC;
    // SAFETY: the arguments are those that `man 2 seccomp` demands, and the kernel copies the filter.
    let answer = unsafe {
        libc::syscall(
            SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const filter,
        )
    };
    assert_eq!(answer, 0);
}
