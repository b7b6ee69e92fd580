//! Plugins that misbehave, first of all in a trial.

use std::{
    fs, io, os::unix::process::CommandExt, path::Path, process::Command, thread, time::Duration,
};

use rustix::process::{Pid, Signal, test_kill_process};

use crate::demo::{BINARY, Demo, copy_program, plugin};

/// A deadline that only a plugin reaches that hangs, also on a busy machine.
const SHORT: &str = "4s";

/// A demo with trials, and plugins that do as they are told.
struct Trials {
    demo: Demo,
    orders: tempfile::NamedTempFile,
}

impl Trials {
    /// With a deadline that is never reached.
    fn start() -> Self {
        Self::run(Command::new(BINARY), "1h")
    }

    fn run(mut command: Command, deadline: &str) -> Self {
        let orders = tempfile::NamedTempFile::new().unwrap();
        command.env("MISBEHAVE", orders.path());
        let options = ["--any-owner", "--trial", "--trial-deadline", deadline];
        let demo = Demo::run(command, &options, &plugin("shipped"));
        demo.says("accepted generation 1: ");
        Self { demo, orders }
    }

    /// Gives the plugin to the demo, which must refuse it for this reason and serve on; in it, `#` stands for
    /// any number.
    #[track_caller]
    fn refuses(&mut self, plugin_name: &str, order: &str, reason: &str) {
        self.order(order);
        let path = plugin(plugin_name);
        self.demo.type_line(&path);
        let said = self.demo.says("refused");
        let said = mask(&said.replace(&path.display().to_string(), "PLUGIN"));
        let expected = format!("refused PLUGIN: {reason}; generation 1 stays live");
        assert_eq!(said, mask(&expected), "{order}");
        self.demo.prints_soon("Adding to 10: 17");
    }

    fn order(&self, order: &str) {
        fs::write(self.orders.path(), order).unwrap();
    }

    /// What a plugin has written there.
    fn answer(&self) -> String {
        fs::read_to_string(self.orders.path()).unwrap()
    }
}

/// With `#` for each number behind a bracket, a colon, or the word "open".
fn mask(text: &str) -> String {
    let mut masked = String::new();
    for c in text.chars() {
        let is_first = !masked.ends_with('#');
        match c {
            '0'..='9'
                if masked.ends_with(['[', '#'])
                    || masked.ends_with("own: ")
                    || masked.ends_with("open: ") =>
            {
                if is_first {
                    masked.push('#');
                }
            }
            c => masked.push(c),
        }
    }
    masked
}

#[test]
fn a_good_plugin_is_swapped_in() {
    let mut it = Trials::start();
    it.demo.type_line(plugin("other"));
    it.demo.says("accepted generation 2: ");
    it.demo.says("unloaded generation 1 after ");
    it.demo.prints_soon("Adding to 20: 27");
    it.demo.end_input();
    assert_eq!(it.demo.ends().0, Some(0));
}

#[test]
fn a_plugin_that_ends_its_process_is_refused_wherever_it_does() {
    let mut it = Trials::start();
    for (place, stage) in [
        ("link", "link"),
        ("root module", "root module"),
        ("probe", "probe"),
        ("unload", "unload"),
    ] {
        it.refuses(
            "misbehaving",
            &format!("{place}: segfault"),
            &format!("{stage}: killed by SIGSEGV, in a trial"),
        );
        it.refuses(
            "misbehaving",
            &format!("{place}: abort"),
            &format!("{stage}: killed by SIGABRT, in a trial"),
        );
        // Success is not what a trial's child says by its exit code.
        let ended = if place == "unload" && !shows_keys() {
            // It has stayed mapped, so that its destructor runs when the child exits, and exits once more. std ends
            // that.
            "killed by SIGABRT, in a trial; it said: thread caused non-unwinding panic. aborting."
        } else {
            "the process ended with exit code 0, in a trial"
        };
        it.refuses(
            "misbehaving",
            &format!("{place}: exit 0"),
            &format!("{stage}: {ended}"),
        );
    }
    // Nor by claiming that it has finished.
    it.refuses(
        "misbehaving",
        "link: claim to have finished",
        "link: the process ended with exit code 0, in a trial",
    );
    it.refuses(
        "misbehaving",
        "link: exit 3 with a word",
        "link: the process ended with exit code 3, in a trial; it said: licence expired",
    );
    it.refuses(
        "misbehaving_to_the_end",
        "unload: segfault",
        "unload: killed by SIGSEGV when all was done, in a trial",
    );
    // The same file, when it behaves.
    it.order("");
    it.demo.type_line(plugin("misbehaving"));
    it.demo.says("accepted generation 2: ");
    it.demo.prints_soon("Badly: 7");
}

#[test]
fn a_plugin_that_hangs_is_refused_wherever_it_does() {
    let mut it = Trials::run(Command::new(BINARY), SHORT);
    for place in ["link", "root module", "probe", "unload"] {
        it.refuses(
            "misbehaving",
            &format!("{place}: hang"),
            &format!("{place}: no end after {SHORT}, in a trial"),
        );
    }
}

/// As the terminal stops a process that is not in front and changes it.
#[test]
fn a_plugin_that_is_stopped_is_refused_with_the_signal() {
    let mut it = Trials::run(Command::new(BINARY), SHORT);
    it.refuses(
        "misbehaving",
        "probe: stop",
        &format!("probe: no end after {SHORT}, stopped by SIGSTOP, in a trial"),
    );
}

/// The system tells of the end of a process that is traced only once the tracer knows of the end of its threads.
#[test]
fn a_plugin_that_is_traced_by_the_host_does_not_stop_it() {
    let mut it = Trials::run(Command::new(BINARY), SHORT);
    it.refuses(
        "misbehaving",
        "probe: be traced by the host, and stop",
        &format!("probe: no end after {SHORT}, in a trial"),
    );
    let mut it = Trials::start();
    it.order("probe: have a thread traced by the host");
    it.demo.type_line(plugin("misbehaving"));
    it.demo.says("accepted generation 2: ");
}

#[test]
fn nothing_that_a_hanging_plugin_has_started_stays() {
    let mut it = Trials::run(Command::new(BINARY), SHORT);
    it.refuses(
        "misbehaving_to_the_end",
        "unload: hang",
        &format!("unload: no end after {SHORT}, in a trial"),
    );
    it.refuses(
        "misbehaving",
        "probe: start a process and wait for it",
        &format!("probe: no end after {SHORT}, in a trial"),
    );
    ends(it.answer().parse().unwrap());
}

#[test]
fn a_wrong_answer_is_refused() {
    let mut it = Trials::start();
    it.refuses(
        "misbehaving",
        "probe: say two lines",
        r#"probe: some_fn: expected one line, found "one\ntwo""#,
    );
    it.demo.type_line(plugin("faulty"));
    let said = it.demo.says("refused");
    let reason = "probe: panicked: no answer to 7 (hotswap-demo/tests/fixtures/examples/faulty.rs:";
    assert!(said.contains(reason), "{said}");
}

/// A text that the host prints, with a length that leads out of the file, and with bytes that are no text.
#[test]
fn the_probe_reads_what_the_host_will_read() {
    const BYTES: usize = 54_321;
    let file = fs::read(plugin("wordy")).unwrap();
    let mut it = Trials::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.so");
    let mut refuses = |bytes: &[u8], reason: &str| {
        fs::write(&path, bytes).unwrap();
        it.demo.type_line(&path);
        let said = it.demo.says("refused");
        let line = format!("refused {}: {reason}", path.display());
        assert!(said.starts_with(&line), "{said}");
        it.demo.prints_soon("Adding to 10: 17");
    };

    let mut long = file.clone();
    let mut lengths = 0;
    for word in long.chunks_exact_mut(8) {
        if *word == BYTES.to_le_bytes() {
            word.copy_from_slice(&(1_usize << 30).to_le_bytes());
            lengths += 1;
        }
    }
    assert!(lengths > 0);
    // By SIGSEGV, or by SIGABRT where the text leads to the end of a stack.
    refuses(&long, "probe: killed by SIG");

    let mut no_text = file.clone();
    let words = no_text
        .windows(BYTES)
        .position(|it| it.iter().all(|byte| *byte == b'x'));
    no_text[words.unwrap() + 7] = 0xff;
    refuses(
        &no_text,
        "probe: some_data: invalid utf-8 sequence of 1 bytes from index 7",
    );

    // The file as it is.
    it.demo.type_line(plugin("wordy"));
    it.demo.says("accepted generation 2: ");
}

#[test]
fn descriptors_that_are_left_open_or_closed_for_others_are_refused() {
    let mut it = Trials::start();
    it.refuses(
        "misbehaving",
        "link: open a file",
        "unload: each time it is loaded, it leaves descriptors open: 7 (/dev/zero)",
    );
    it.refuses(
        "misbehaving",
        "probe: close standard error",
        "unload: it closes or replaces descriptors that are not its own: 2 (pipe:[4711])",
    );
    // Once for the whole process is no leak.
    it.order("link: open a file once");
    it.demo.type_line(plugin("misbehaving"));
    it.demo.says("accepted generation 2: ");
}

#[test]
fn the_child_has_nothing_open_that_it_does_not_need() {
    let mut command = Command::new("sh");
    // What the host has inherited itself, and a child would inherit in its turn.
    command.args(["-c", r#"exec 9</etc/passwd; exec "$@""#, "sh", BINARY]);
    let mut it = Trials::run(command, "1h");
    it.refuses(
        "misbehaving",
        "link: say what is open",
        "link: the process ended with exit code 3, in a trial; it said: \
         /dev/null /dev/null /memfd:libmisbehaving /memfd:libmisbehaving pipe:[4711] socket:[4711]",
    );
}

#[test]
fn the_first_plugin_is_tried_too() {
    let orders = tempfile::NamedTempFile::new().unwrap();
    fs::write(orders.path(), "link: abort").unwrap();
    let mut command = Command::new(BINARY);
    command.env("MISBEHAVE", orders.path());
    let path = plugin("misbehaving");
    let (code, err) = Demo::run(command, &["--any-owner", "--trial"], &path).ends();
    assert_eq!(code, Some(1));
    let line = format!(
        "refused {}: link: killed by SIGABRT, in a trial",
        path.display()
    );
    assert_eq!(err, [line]);
}

/// `SIGCHLD` is ignored, so that the system forgets how children have ended.
#[test]
fn a_host_that_does_not_wait_for_its_children_can_run_trials() {
    let mut command = Command::new("env");
    command.args(["--ignore-signal=CHLD", BINARY]);
    let mut it = Trials::run(command, "1h");
    it.refuses(
        "misbehaving",
        "link: segfault",
        "link: the process ended (how is not known: this host does not wait for its children), in a trial",
    );
    it.demo.type_line(plugin("other"));
    it.demo.says("accepted generation 2: ");
}

/// Whether the host has ended it, the host knows all the same.
#[test]
fn a_plugin_that_hangs_is_refused_as_such_by_a_host_that_does_not_wait_for_its_children() {
    let mut command = Command::new("env");
    command.args(["--ignore-signal=CHLD", BINARY]);
    let mut it = Trials::run(command, SHORT);
    it.refuses(
        "misbehaving",
        "probe: hang",
        &format!("probe: no end after {SHORT}, in a trial"),
    );
}

/// The threads of the host's own may do with little stack: those that run plugins need as much as ever.
#[test]
fn a_host_whose_threads_have_small_stacks_runs_plugins() {
    let mut command = Command::new(BINARY);
    command.env("RUST_MIN_STACK", "131072");
    let mut it = Trials::run(command, "1h");
    it.demo.type_line(plugin("other"));
    it.demo.says("accepted generation 2: ");
    it.demo.prints_soon("Adding to 20: 27");
}

#[test]
fn a_host_whose_file_is_gone_can_run_trials() {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("demo");
    copy_program(&binary);
    let mut it = Trials::run(Command::new(&binary), "1h");
    fs::remove_file(&binary).unwrap();
    it.refuses(
        "misbehaving",
        "link: segfault",
        "link: killed by SIGSEGV, in a trial",
    );
    it.demo.type_line(plugin("other"));
    it.demo.says("accepted generation 2: ");
}

#[test]
fn a_trial_ends_with_its_host() {
    let mut it = Trials::start();
    it.order("root module: hang");
    it.demo.type_line(plugin("misbehaving"));
    let child = loop {
        if let Some(child) = child_of(it.demo.number()) {
            break child;
        }
        thread::sleep(Duration::from_millis(1));
    };
    it.demo.signal(Signal::KILL);
    ends(child);
}

/// As a service's sandbox may (systemd's `SystemCallFilter=~@resources`).
#[test]
fn a_sandbox_that_denies_limits_is_named() {
    let mut command = Command::new(BINARY);
    deny(&mut command, libc::SYS_prlimit64);
    let (code, err) = Demo::run(command, &["--any-owner", "--trial"], &plugin("shipped")).ends();
    let line = format!(
        "refused {}: trial: it cannot begin: the system does not let it limit its core dumps (prlimit): Operation not \
         permitted (os error 1)",
        plugin("shipped").display()
    );
    assert_eq!(err, [line]);
    assert_eq!(code, Some(1));

    // Without a trial there is nothing that needs it.
    let mut command = Command::new(BINARY);
    deny(&mut command, libc::SYS_prlimit64);
    let demo = Demo::run(command, &["--any-owner"], &plugin("shipped"));
    demo.says("accepted generation 1: ");
}

#[test]
fn a_sandbox_that_does_not_list_descriptors_is_named() {
    let mut command = Command::new(BINARY);
    deny(&mut command, libc::SYS_getdents64);
    let (_, err) = Demo::run(command, &["--any-owner", "--trial"], &plugin("shipped")).ends();
    let line = format!(
        "refused {}: trial: it cannot begin: /proc/self/fd: Operation not permitted (os error 1)",
        plugin("shipped").display()
    );
    assert_eq!(err, [line]);
}

/// Without memory files, there is nothing that a plugin could be loaded from.
#[test]
fn a_sandbox_that_denies_memory_files_is_named() {
    let mut command = Command::new(BINARY);
    deny(&mut command, libc::SYS_memfd_create);
    let (code, err) = Demo::run(command, &["--any-owner"], &plugin("shipped")).ends();
    let line = format!(
        "refused {}: copy: the system does not let it make memory files (memfd_create): Operation not permitted (os \
         error 1)",
        plugin("shipped").display()
    );
    assert_eq!(err, [line]);
    assert_eq!(code, Some(1));
}

/// Lets a system call fail with `EPERM` in the program and in all that it starts.
fn deny(command: &mut Command, call: libc::c_long) {
    let filter = [
        // The number of the call is the first word of what a filter is given (`seccomp(2)`).
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            call.try_into().unwrap(),
            0,
            1,
        ),
        step(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            0,
            0,
        ),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let install = move || {
        let mut filter = filter;
        let program = libc::sock_fprog {
            len: filter.len().try_into().expect("four"),
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: it takes numbers.
        let alone = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: the program and its steps are there during the call.
        let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
        match (alone, set) {
            (0, 0) => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: it allocates nothing, takes no lock, and makes system calls alone.
    unsafe { command.pre_exec(install) };
}

fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    let code = code.try_into().expect("16 bits");
    libc::sock_filter { code, jt, jf, k }
}

#[test]
fn the_child_started_by_hand_says_what_it_is() {
    let mut command = Command::new(BINARY);
    let output = command
        .arg0("hotswap-trial")
        .arg("dyn hotswap_types::Plugin")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("hotswap-trial: "), "{said}");
    assert!(said.contains("it is started by a host"), "{said}");
}

/// The trial's child of a demo, when it has come so far as to be one.
fn child_of(host: u32) -> Option<u32> {
    let children = format!("/proc/{host}/task");
    let tasks = fs::read_dir(children).unwrap().flatten();
    let mut children = tasks.flat_map(|task| {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        list.split_whitespace()
            .map(|it| it.parse().unwrap())
            .collect::<Vec<u32>>()
    });
    children.find(|child| {
        let is_mapped = |maps: String| maps.contains("/memfd:");
        fs::read_to_string(format!("/proc/{child}/maps")).is_ok_and(is_mapped)
    })
}

/// Waits until a process has ended, or is only waited for.
#[track_caller]
fn ends(number: u32) {
    let started = std::time::Instant::now();
    let pid = Pid::from_raw(number.try_into().unwrap()).unwrap();
    while test_kill_process(pid).is_ok() && !is_zombie(number) {
        assert!(
            started.elapsed() < crate::demo::SOON,
            "{number} is still there"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

fn is_zombie(number: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(number.to_string()).join("stat"));
    stat.is_ok_and(|stat| stat.contains(") Z "))
}

/// Whether this system shows the keys of threads, as glibc does since 2.34: if not, what may have made some stays
/// mapped.
fn shows_keys() -> bool {
    // SAFETY: no conditions.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: it is a constant text of the C library.
    let version = unsafe { std::ffi::CStr::from_ptr(version) };
    let minor = version.to_str().unwrap().strip_prefix("2.").unwrap();
    minor.split('.').next().unwrap().parse::<u32>().unwrap() >= 34
}
