//! Whose code has crashed, and that it is not loaded again.

use std::{
    env, fs, io,
    io::Write,
    mem::{self, MaybeUninit},
    os::unix::{fs::symlink, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    ptr,
    sync::{
        Barrier, OnceLock,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use hotswap_core::{ErrorKind, Hotswap, Policy, Sha256, Stage, Trust, canary::Share, crash};
use hotswap_fixtures::{
    FixtureRef,
    crashes::{AsyncCrashes, Crashes},
    faults::{segfault, use_up_stack},
};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use object::{NativeEndian, Object as _, ObjectSection as _, read::elf::ElfFile64};
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat};

use crate::{
    fixtures::{SOON, has_glibc, plugin, trust},
    marks::changed,
};

/// Says to the child what it is, and in which folder it records crashes.
const CHILD: &str = "HOTSWAP_TEST_CRASH";

/// What has become of a child, and what it has said of its crash.
struct Crashed {
    output: Output,
    folder: tempfile::TempDir,
}

/// Runs `body` in a process of its own, which is to crash. `test` is the full name of the calling test.
fn crashed(test: &str, body: impl FnOnce(&Path)) -> Crashed {
    if let Some(folder) = env::var_os(CHILD) {
        crash::install_handler().unwrap();
        body(Path::new(&folder));
        unreachable!("it has not crashed");
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, folder.path())
        .output()
        .expect("this test runs again");
    Crashed { output, folder }
}

impl Crashed {
    fn signal(&self) -> Option<Signal> {
        let signal = self.output.status.signal();
        signal.map(|it| Signal::try_from(it).expect("a signal"))
    }

    /// The line of the report. There is no other.
    #[track_caller]
    fn line(&self) -> String {
        let text = String::from_utf8_lossy(&self.output.stderr);
        let lines = text.lines().filter(|it| it.starts_with("hotswap: SIG"));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 1, "{text}");
        lines[0].to_owned()
    }
}

fn policy(folder: &Path) -> Policy {
    Policy {
        avoid_crashed: Some(folder.to_owned()),
        ..trust().policy().clone()
    }
}

fn load(folder: &Path) -> Hotswap<dyn Crashes> {
    // SAFETY: the tests' own plugins.
    let trust = unsafe { Trust::vouch(policy(folder)) };
    Hotswap::load(plugin("crashes"), &trust).expect("a good plugin")
}

fn details() -> String {
    let sha256 = Sha256::of(&fs::read(plugin("crashes")).unwrap());
    format!(", sha256 {sha256})")
}

/// A crash of generation 2, after which its bytes are refused.
#[track_caller]
fn crash_of_second(test: &str, signal: Signal, said: &str, crash: impl FnOnce(&dyn Crashes)) {
    let crashed = crashed(test, |folder| {
        let it = load(folder);
        it.swap(plugin("crashes")).unwrap();
        it.with(crash);
    });
    assert_eq!(crashed.signal(), Some(signal), "{:?}", crashed.output);
    let line = crashed.line();
    assert!(
        line.starts_with(&format!("hotswap: {signal}")) && line.contains(said),
        "{line}\n{said}"
    );
    assert!(line.contains("generation 2 of libcrashes.so"), "{line}");
    assert!(
        line.contains(" (hotswap-fixtures 0.1.0, build id "),
        "{line}"
    );
    assert!(line.ends_with(&details()), "{line}");
    refused_again(&crashed, &line);
}

/// The next process refuses the bytes, with the line as its reason, until the record is removed.
#[track_caller]
fn refused_again(crashed: &Crashed, line: &str) {
    let folder = crashed.folder.path();
    // SAFETY: the tests' own plugins.
    let trust = unsafe { Trust::vouch(policy(folder)) };
    let load = || Hotswap::<dyn Crashes>::load(plugin("crashes"), &trust);
    let error = load().unwrap_err();
    assert_eq!(error.stage(), Stage::Trust);
    assert_eq!(error.setting(), Some("Policy::avoid_crashed"));
    let ErrorKind::Crashed { path, report, .. } = error.kind() else {
        panic!("{error}");
    };
    assert_eq!(report, line);
    fs::remove_file(path).unwrap();
    load().unwrap();
}

#[test]
fn the_plugin_s_own_code() {
    let test = "crashes::the_plugin_s_own_code";
    let said = "(address 0x8) on thread ";
    crash_of_second(test, Signal::SIGSEGV, said, |it| it.write_nowhere());
}

#[test]
fn a_canary() {
    let crashed = crashed("crashes::a_canary", |folder| {
        let it = load(folder);
        let canary = it.prepare(plugin("crashes")).unwrap();
        let canary = canary.start_canary(Share::ALL).unwrap();
        canary.choose("Ada").with(|it| it.write_nowhere());
    });
    assert_eq!(
        crashed.signal(),
        Some(Signal::SIGSEGV),
        "{:?}",
        crashed.output
    );
    let line = crashed.line();
    assert!(line.contains("generation 2 of libcrashes.so"), "{line}");
    refused_again(&crashed, &line);
}

#[test]
fn a_thread_of_the_plugin() {
    let test = "crashes::a_thread_of_the_plugin";
    let said = ": in generation 2 of libcrashes.so, at offset 0x";
    crash_of_second(test, Signal::SIGSEGV, said, |it| {
        it.write_nowhere_on_thread()
    });
}

/// It has a stack for the handler.
#[test]
fn a_stack_of_a_thread_of_the_plugin_is_used_up() {
    let test = "crashes::a_stack_of_a_thread_of_the_plugin_is_used_up";
    let said = ", at the end of the stack) on thread ";
    crash_of_second(test, Signal::SIGSEGV, said, |it| it.overflow_on_thread());
}

/// A test does not run on it, so a signal has it call the plugin. The standard library's handler, which is called after
/// the report, says so too, and aborts.
#[test]
fn the_stack_of_the_main_thread_is_used_up() {
    static IT: OnceLock<Hotswap<dyn Crashes>> = OnceLock::new();
    extern "C" fn call(_: i32) {
        if let Some(it) = IT.get() {
            it.with(|it| it.overflow());
        }
    }
    install(Signal::SIGUSR1, call, SaFlags::empty());
    let test = "crashes::the_stack_of_the_main_thread_is_used_up";
    let crashed = crashed(test, |folder| {
        assert!(IT.set(load(folder)).is_ok());
        let main = rustix::process::getpid().as_raw_pid();
        // SAFETY: the thread waits for this one, and what its handler calls takes no lock that it has.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, main, main, libc::SIGUSR1) };
        assert_eq!(sent, 0);
        loop {
            thread::park();
        }
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGABRT));
    let line = crashed.line();
    assert!(line.starts_with("hotswap: SIGSEGV (address 0x"), "{line}");
    let said = ", at the end of the stack) on thread ";
    assert!(line.contains(said), "{line}");
    let said = ": in generation 1 of libcrashes.so, at offset 0x";
    assert!(line.contains(said), "{line}");
    refused_again(&crashed, &line);
}

/// Each of them has a stack for the handler.
#[test]
fn one_of_ten_thousand_threads_of_the_plugin() {
    let test = "crashes::one_of_ten_thousand_threads_of_the_plugin";
    let said = ": in generation 2 of libcrashes.so, at offset 0x";
    crash_of_second(test, Signal::SIGSEGV, said, |it| {
        it.write_nowhere_among(10_000)
    });
}

#[test]
fn a_destructor_of_a_thread_of_the_plugin() {
    let test = "crashes::a_destructor_of_a_thread_of_the_plugin";
    let said = ", probably because of generation 2 of libcrashes.so, whose offset 0x";
    crash_of_second(test, Signal::SIGSEGV, said, |it| {
        it.fail_when_own_thread_ends()
    });
}

/// It is the plugin's, and no call is under way.
#[test]
fn a_destructor_of_a_thread_of_the_host() {
    let test = "crashes::a_destructor_of_a_thread_of_the_host";
    let crashed = crashed(test, |folder| {
        let it = load(folder);
        let call = || it.with(|it| it.fail_when_thread_ends());
        thread::scope(|scope| scope.spawn(call).join()).unwrap();
        // The scope waits for the closure, and not for what the thread does afterwards.
        loop {
            thread::park();
        }
    });
    assert_eq!(
        crashed.signal(),
        Some(Signal::SIGSEGV),
        "{:?}",
        crashed.output
    );
    let line = crashed.line();
    let said = ", probably because of generation 1 of libcrashes.so, whose offset 0x";
    assert!(line.contains(said), "{line}");
    refused_again(&crashed, &line);
}

/// Both handlers run on the same stack.
#[test]
fn a_handler_of_a_signal() {
    let test = "crashes::a_handler_of_a_signal";
    let said = ", probably because of generation 2 of libcrashes.so, which the thread has called";
    crash_of_second(test, Signal::SIGSEGV, said, |it| it.fail_in_handler());
}

#[test]
fn a_handler_of_a_signal_on_a_thread_of_the_plugin() {
    let test = "crashes::a_handler_of_a_signal_on_a_thread_of_the_plugin";
    let said = ", probably because of generation 2 of libcrashes.so, whose offset 0x";
    crash_of_second(test, Signal::SIGSEGV, said, |it| {
        it.fail_in_handler_on_thread()
    });
}

/// If the stack pointer has left that stack, the kernel has the report begin at its top. If not, it has no room for the
/// arguments of a handler. It ends the process in any case.
#[test]
fn a_handler_of_a_signal_uses_up_its_stack() {
    let crashed = crashed(
        "crashes::a_handler_of_a_signal_uses_up_its_stack",
        |folder| {
            let it = load(folder);
            it.with(|it| it.overflow_in_handler_on_thread());
        },
    );
    assert_eq!(
        crashed.signal(),
        Some(Signal::SIGSEGV),
        "{:?}",
        crashed.output
    );
}

#[test]
fn an_exception_that_nobody_catches() {
    let test = "crashes::an_exception_that_nobody_catches";
    let said = ", probably because of generation 2 of libcrashes.so, which the thread has called (";
    crash_of_second(test, Signal::SIGABRT, said, |it| it.throw());
}

#[test]
fn an_exception_that_nobody_catches_on_a_thread_of_the_plugin() {
    let test = "crashes::an_exception_that_nobody_catches_on_a_thread_of_the_plugin";
    let said = "generation 2 of libcrashes.so";
    crash_of_second(test, Signal::SIGABRT, said, |it| it.throw_on_thread());
}

/// A crash on a thread of the runtime of generation 1.
#[track_caller]
fn crash_of_runtime(test: &str, said: &str, call: impl AsyncFnOnce(&Hotswap<dyn AsyncCrashes>)) {
    let load = |folder: &Path| {
        // SAFETY: the tests' own plugins.
        let trust = unsafe { Trust::vouch(policy(folder)) };
        Hotswap::<dyn AsyncCrashes>::load(plugin("crashes_tokio"), &trust)
    };
    let crashed = crashed(test, |folder| {
        futures_executor::block_on(call(&load(folder).unwrap()));
        loop {
            thread::park();
        }
    });
    assert_eq!(
        crashed.signal(),
        Some(Signal::SIGSEGV),
        "{:?}",
        crashed.output
    );
    let line = crashed.line();
    assert!(line.contains(said), "{line}\n{said}");
    assert!(
        line.contains("generation 1 of libcrashes_tokio.so"),
        "{line}"
    );
    let error = load(crashed.folder.path()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Crashed { .. }), "{error}");
}

#[test]
fn a_call_on_a_runtime_of_the_plugin() {
    let test = "crashes::a_call_on_a_runtime_of_the_plugin";
    let said = ": in generation 1 of libcrashes_tokio.so, at offset 0x";
    crash_of_runtime(test, said, async |it| {
        it.call_async(|it| it.write_nowhere()).await.unwrap()
    });
}

#[test]
fn a_library_that_a_runtime_of_the_plugin_calls() {
    let test = "crashes::a_library_that_a_runtime_of_the_plugin_calls";
    let said = ", probably because of generation 1 of libcrashes_tokio.so, whose offset 0x";
    crash_of_runtime(test, said, async |it| {
        it.call_async(|it| it.fail_in_libc()).await.unwrap()
    });
}

#[test]
fn a_task_on_a_runtime_of_the_plugin() {
    let test = "crashes::a_task_on_a_runtime_of_the_plugin";
    let said = ", probably because of generation 1 of libcrashes_tokio.so, whose offset 0x";
    crash_of_runtime(test, said, async |it| {
        it.call_async(|it| it.fail_in_task()).await.unwrap()
    });
}

#[test]
fn a_blocking_task_on_a_runtime_of_the_plugin() {
    let test = "crashes::a_blocking_task_on_a_runtime_of_the_plugin";
    let said = ", probably because of generation 1 of libcrashes_tokio.so, whose offset 0x";
    crash_of_runtime(test, said, async |it| {
        it.call_async(|it| it.fail_in_blocking_task())
            .await
            .unwrap()
    });
}

#[test]
fn a_stack_of_a_runtime_of_the_plugin_is_used_up() {
    let test = "crashes::a_stack_of_a_runtime_of_the_plugin_is_used_up";
    let said = ", at the end of the stack) on thread ";
    crash_of_runtime(test, said, async |it| {
        it.call_async(|it| it.overflow()).await.unwrap()
    });
}

#[test]
fn an_instruction_that_does_not_exist() {
    let test = "crashes::an_instruction_that_does_not_exist";
    let said = ": in generation 2 of libcrashes.so, at offset 0x";
    crash_of_second(test, Signal::SIGILL, said, |it| it.run_nothing());
}

#[test]
fn an_abort_of_cxx() {
    let test = "crashes::an_abort_of_cxx";
    let said = ", probably because of generation 2 of libcrashes.so, which the thread has called (";
    crash_of_second(test, Signal::SIGABRT, said, |it| it.terminate());
}

#[test]
fn a_library_that_the_plugin_calls() {
    let test = "crashes::a_library_that_the_plugin_calls";
    // `libc-2.31.so` before glibc 2.34.
    let said = if has_glibc(34) {
        "libc.so.6 at 0x"
    } else {
        "libc-2."
    };
    crash_of_second(test, Signal::SIGSEGV, said, |it| it.fail_in_libc());
}

#[test]
fn a_library_that_a_thread_of_the_plugin_calls() {
    let test = "crashes::a_library_that_a_thread_of_the_plugin_calls";
    let said = ", probably because of generation 2 of libcrashes.so, whose offset 0x";
    crash_of_second(test, Signal::SIGSEGV, said, |it| {
        it.fail_in_libc_on_thread()
    });
}

#[test]
fn a_call_of_no_function() {
    let test = "crashes::a_call_of_no_function";
    let said = ": at 0x0, where no code is, probably because of generation 2 of libcrashes.so";
    crash_of_second(test, Signal::SIGSEGV, said, |it| it.call_null());
}

/// A generation that has been retired, and an async call: what is polled.
#[test]
fn a_future_of_a_retired_generation() {
    let test = "crashes::a_future_of_a_retired_generation";
    let crashed = crashed(test, |folder| {
        let it = load(folder);
        let future = it.call_async(|it| it.fail_later());
        it.swap(plugin("crashes")).unwrap();
        futures_executor::block_on(future).unwrap();
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGSEGV));
    let line = crashed.line();
    assert!(
        line.contains(", probably because of generation 1 of libcrashes.so"),
        "{line}"
    );
    refused_again(&crashed, &line);
}

/// On the thread that runs what a plugin does when it leaves.
#[test]
fn a_destructor_of_a_retired_generation() {
    let test = "crashes::a_destructor_of_a_retired_generation";
    let crashed = crashed(test, |folder| {
        let it = load(folder);
        it.with(|it| it.fail_when_dropped());
        it.swap(plugin("crashes")).unwrap();
        it.wait(1, SOON);
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGSEGV));
    let line = crashed.line();
    assert!(
        line.contains(", probably because of generation 1 of libcrashes.so, whose offset 0x"),
        "{line}"
    );
    refused_again(&crashed, &line);
}

/// What is loaded before it has a number. Where its code is mapped is found out when it crashes.
#[track_caller]
fn crash_of_candidate(test: &str, name: &str, signal: Signal, said: &str) {
    let load = |folder: &Path| {
        // SAFETY: the tests' own plugins.
        let trust = unsafe { Trust::vouch(policy(folder)) };
        Hotswap::<FixtureRef>::load(plugin(name), &trust)
    };
    let crashed = crashed(test, |folder| drop(load(folder)));
    assert_eq!(crashed.signal(), Some(signal), "{:?}", crashed.output);
    let line = crashed.line();
    assert!(line.contains(said), "{line}\n{said}");
    let error = load(crashed.folder.path()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Crashed { .. }), "{error}");
}

#[test]
fn an_initialiser_of_a_candidate() {
    let test = "crashes::an_initialiser_of_a_candidate";
    let said = ": in libconstructor_segfaults.so, at offset 0x";
    crash_of_candidate(test, "constructor_segfaults", Signal::SIGSEGV, said);
}

#[test]
fn a_library_that_an_initialiser_calls() {
    let test = "crashes::a_library_that_an_initialiser_calls";
    let said = ", probably because of libconstructor_aborts.so, whose offset 0x";
    crash_of_candidate(test, "constructor_aborts", Signal::SIGABRT, said);
}

/// The same thread may have opened another image earlier, whose code has left its traces on the stack.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_candidate_is_not_taken_for_what_was_opened_before() {
    let test = "crashes::a_candidate_is_not_taken_for_what_was_opened_before";
    let crashed = crashed(test, |folder| {
        let it = load(folder);
        let file = changed("build_2", |bytes| {
            let elf = ElfFile64::<NativeEndian>::parse(bytes).unwrap();
            let (start, _) = elf.section_by_name(".init").unwrap().file_range().unwrap();
            // `xor eax, eax`, `jmp rax`
            (start as usize, vec![0x31, 0xc0, 0xff, 0xe0])
        });
        let _ = it.swap(&file);
    });
    assert_eq!(
        crashed.signal(),
        Some(Signal::SIGSEGV),
        "{:?}",
        crashed.output
    );
    let line = crashed.line();
    assert!(
        line.contains(": at 0x0, where no code is, probably because of "),
        "{line}"
    );
    assert!(line.contains(".so, which the thread loads ("), "{line}");
    assert!(!line.contains("generation"), "{line}");
    load(crashed.folder.path());
}

/// A plugin is loaded, and is not blamed.
#[test]
fn the_host() {
    let crashed = crashed("crashes::the_host", |folder| {
        let _it = load(folder);
        segfault();
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGSEGV));
    let line = crashed.line();
    assert!(line.contains("\": in the host, /"), "{line}");
    assert!(!line.contains("generation"), "{line}");
    assert_eq!(fs::read_dir(crashed.folder.path()).unwrap().count(), 0);
}

/// As the standard library's: it says so, and aborts. That is no second crash.
#[test]
fn a_stack_of_a_thread_of_the_host_is_used_up() {
    let crashed = crashed(
        "crashes::a_stack_of_a_thread_of_the_host_is_used_up",
        |_| drop(thread::spawn(use_up_stack).join()),
    );
    assert_eq!(crashed.signal(), Some(Signal::SIGABRT));
    let line = crashed.line();
    assert!(line.contains(", at the end of the stack)"), "{line}");
    assert!(line.contains(": in the host, /"), "{line}");
    let text = String::from_utf8_lossy(&crashed.output.stderr);
    assert!(text.contains("has overflowed its stack"), "{text}");
}

/// The first of them is reported, and ends the process.
#[test]
fn threads_that_crash_at_once_are_one_line() {
    let test = "crashes::threads_that_crash_at_once_are_one_line";
    let said = ": in generation 2 of libcrashes.so, at offset 0x";
    crash_of_second(test, Signal::SIGSEGV, said, |it| {
        let all = Barrier::new(32);
        thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    all.wait();
                    it.write_nowhere();
                });
            }
        });
    });
}

/// Generations come and go on other threads meanwhile.
#[test]
fn a_crash_during_swaps() {
    let crashed = crashed("crashes::a_crash_during_swaps", |folder| {
        let it = load(folder);
        thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    it.swap(plugin("crashes")).unwrap();
                }
            });
            while it.lease().number() < 20 {
                thread::yield_now();
            }
            it.with(|it| it.fail_in_libc());
        });
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGSEGV));
    let line = crashed.line();
    assert!(line.contains(", probably because of generation "), "{line}");
    refused_again(&crashed, &line);
}

/// It is what was there before.
#[test]
fn a_signal_that_another_process_sends_is_no_crash() {
    let test = "crashes::a_signal_that_another_process_sends_is_no_crash";
    let crashed = crashed(test, |folder| {
        let it = load(folder);
        it.with(|_| {
            let own = std::process::id().to_string();
            let sent = Command::new("sh")
                .args(["-c", "kill -ABRT \"$0\"", &own])
                .status();
            assert!(sent.unwrap().success());
            thread::sleep(Duration::from_secs(60));
        });
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGABRT));
    let text = String::from_utf8_lossy(&crashed.output.stderr);
    assert!(!text.contains("hotswap: SIG"), "{text}");
    assert_eq!(fs::read_dir(crashed.folder.path()).unwrap().count(), 0);
}

/// A handler that mends what has failed goes on doing so, and the next crash is reported again.
#[test]
fn a_handler_from_before_is_called() {
    let test = "crashes::a_handler_from_before_is_called";
    extern "C" fn mend(_: i32) {}
    if env::var_os(CHILD).is_some() {
        // SAFETY: the handler does nothing.
        unsafe {
            nix::sys::signal::signal(Signal::SIGFPE, nix::sys::signal::SigHandler::Handler(mend))
        }
        .unwrap();
    }
    let crashed = crashed(test, |_| {
        raise(Signal::SIGFPE).unwrap();
        raise(Signal::SIGFPE).unwrap();
        std::process::exit(7);
    });
    assert_eq!(
        crashed.output.status.code(),
        Some(7),
        "{:?}",
        crashed.output
    );
    let text = String::from_utf8_lossy(&crashed.output.stderr);
    assert_eq!(
        text.matches("hotswap: SIGFPE on thread ").count(),
        2,
        "{text}"
    );
}

/// Installs a handler, unless this is the process that starts the one with it.
fn install(signal: Signal, handler: extern "C" fn(i32), flags: SaFlags) {
    install_with_mask(signal, handler, flags, SigSet::empty());
}

/// Returns what was there before.
fn install_with_mask(
    signal: Signal,
    handler: extern "C" fn(i32),
    flags: SaFlags,
    mask: SigSet,
) -> Option<SigAction> {
    env::var_os(CHILD)?;
    let action = SigAction::new(SigHandler::Handler(handler), flags, mask);
    // SAFETY: the handlers of these tests call nothing that a handler must not call.
    Some(unsafe { sigaction(signal, &action) }.unwrap())
}

/// The kernel takes such a handler away when it calls it, so what has failed ends the process when it is run again.
#[test]
fn a_handler_from_before_that_is_for_once_is_called_once() {
    extern "C" fn say(_: i32) {
        let text = "called\n";
        // SAFETY: the bytes are readable.
        unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    }
    install(Signal::SIGSEGV, say, SaFlags::SA_RESETHAND);
    let crashed = crashed(
        "crashes::a_handler_from_before_that_is_for_once_is_called_once",
        |_| segfault(),
    );
    assert_eq!(crashed.signal(), Some(Signal::SIGSEGV));
    crashed.line();
    let text = String::from_utf8_lossy(&crashed.output.stderr);
    assert_eq!(text.matches("called\n").count(), 1, "{text}");
}

/// What was there before the handler of the test.
static PREVIOUS_ACTION: OnceLock<SigAction> = OnceLock::new();

/// A crash whose handler from before is `handler`, which does not mend it. Another thread, which crashes meanwhile,
/// adds nothing.
#[track_caller]
fn ends_with_one_line(test: &str, signal: Signal, handler: extern "C" fn(i32), crash: fn()) {
    static IS_CALLED: AtomicBool = AtomicBool::new(false);
    static IS_ABOUT_TO_CRASH: AtomicBool = AtomicBool::new(false);
    const MOMENT: Duration = Duration::from_millis(100);
    static HANDLER: OnceLock<extern "C" fn(i32)> = OnceLock::new();
    extern "C" fn handle(signal: i32) {
        IS_CALLED.store(true, Relaxed);
        while !IS_ABOUT_TO_CRASH.load(Relaxed) {
            thread::yield_now();
        }
        thread::sleep(MOMENT);
        HANDLER.get().unwrap()(signal);
        raise(Signal::SIGUSR1).unwrap();
    }
    /// Runs when all handlers have returned, before what has failed is run again.
    extern "C" fn delay(_: i32) {
        thread::sleep(MOMENT);
    }
    let _ = HANDLER.set(handler);
    install(Signal::SIGUSR1, delay, SaFlags::empty());
    let mask = Signal::SIGUSR1.into();
    if let Some(before) = install_with_mask(signal, handle, SaFlags::empty(), mask) {
        PREVIOUS_ACTION.set(before).unwrap();
    }
    let crashed = crashed(test, |_| {
        thread::spawn(|| {
            while !IS_CALLED.load(Relaxed) {
                thread::yield_now();
            }
            IS_ABOUT_TO_CRASH.store(true, Relaxed);
            segfault();
        });
        crash();
    });
    assert_eq!(crashed.signal(), Some(signal), "{:?}", crashed.output);
    crashed.line();
}

/// As the standard library's handler does: what has failed then ends the process when it is run again.
#[test]
fn a_handler_from_before_that_gives_up_ends_it_with_one_line() {
    extern "C" fn give_up(_: i32) {
        // SAFETY: no handler.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
    }
    let test = "crashes::a_handler_from_before_that_gives_up_ends_it_with_one_line";
    ends_with_one_line(test, Signal::SIGSEGV, give_up, segfault);
}

#[test]
fn a_handler_from_before_that_sets_the_one_before_ends_it_with_one_line() {
    extern "C" fn set_before(_: i32) {
        // SAFETY: it was there before.
        unsafe { sigaction(Signal::SIGSEGV, PREVIOUS_ACTION.get().unwrap()) }.unwrap();
    }
    let test = "crashes::a_handler_from_before_that_sets_the_one_before_ends_it_with_one_line";
    ends_with_one_line(test, Signal::SIGSEGV, set_before, segfault);
}

/// `abort` does not care.
#[test]
fn a_handler_from_before_that_returns_from_an_abort_ends_it_with_one_line() {
    extern "C" fn do_nothing(_: i32) {}
    let test = "crashes::a_handler_from_before_that_returns_from_an_abort_ends_it_with_one_line";
    fn abort() {
        std::process::abort();
    }
    ends_with_one_line(test, Signal::SIGABRT, do_nothing, abort);
}

/// As reporters of crashes do when they are done. On a thread of the host, whose stack for handlers is small.
#[test]
fn a_handler_from_before_that_ends_the_process_is_called_once() {
    extern "C" fn end(_: i32) {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        if CALLS.fetch_add(1, Relaxed) > 2 {
            // SAFETY: no conditions.
            unsafe { libc::_exit(7) };
        }
        // SAFETY: no handler.
        unsafe { libc::signal(libc::SIGABRT, libc::SIG_DFL) };
        raise(Signal::SIGABRT).unwrap();
    }
    install(Signal::SIGABRT, end, SaFlags::empty());
    let test = "crashes::a_handler_from_before_that_ends_the_process_is_called_once";
    let crashed = crashed(test, |_| {
        let _ = thread::spawn(|| std::process::abort()).join();
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGABRT));
    crashed.line();
}

/// Its signal is blocked as long as it runs, and so are those of its mask.
#[test]
fn a_handler_from_before_is_called_with_its_mask() {
    extern "C" fn check(_: i32) {
        let blocked = SigSet::thread_get_mask().unwrap();
        assert!(blocked.contains(Signal::SIGFPE), "its own");
        assert!(blocked.contains(Signal::SIGUSR1), "the thread's");
        assert!(!blocked.contains(Signal::SIGSEGV));
        assert!(!blocked.contains(Signal::SIGUSR2));
    }
    install(Signal::SIGFPE, check, SaFlags::empty());
    let test = "crashes::a_handler_from_before_is_called_with_its_mask";
    let crashed = crashed(test, |_| {
        let mut own = SigSet::empty();
        own.add(Signal::SIGUSR1);
        own.thread_block().unwrap();
        raise(Signal::SIGFPE).unwrap();
        assert_eq!(SigSet::thread_get_mask().unwrap(), own);
        std::process::exit(7);
    });
    assert_eq!(
        crashed.output.status.code(),
        Some(7),
        "{:?}",
        crashed.output
    );
}

static IS_PARKED: AtomicBool = AtomicBool::new(false);

extern "C" fn park(_: i32) {
    IS_PARKED.store(true, Relaxed);
    loop {
        // SAFETY: no conditions.
        unsafe { libc::pause() };
    }
}

/// Some handlers keep the thread for ever. The next crash is another thread's.
#[test]
fn a_handler_from_before_that_does_not_return_hides_no_other_crash() {
    install(Signal::SIGFPE, park, SaFlags::empty());
    let crashed = crashed(
        "crashes::a_handler_from_before_that_does_not_return_hides_no_other_crash",
        |folder| {
            let it = load(folder);
            thread::spawn(|| raise(Signal::SIGFPE));
            while !IS_PARKED.load(Relaxed) {
                thread::yield_now();
            }
            it.with(|it| it.write_nowhere());
        },
    );
    assert_eq!(crashed.signal(), Some(Signal::SIGSEGV));
    let text = String::from_utf8_lossy(&crashed.output.stderr);
    assert!(text.contains("hotswap: SIGFPE on thread "), "{text}");
    assert!(text.contains("hotswap: SIGSEGV (address 0x8)"), "{text}");
    assert_eq!(fs::read_dir(crashed.folder.path()).unwrap().count(), 1);
}

/// Those that take its place take turns.
#[test]
fn threads_that_crash_at_once_beside_such_a_handler_are_one_line() {
    install(Signal::SIGFPE, park, SaFlags::empty());
    let test = "crashes::threads_that_crash_at_once_beside_such_a_handler_are_one_line";
    let crashed = crashed(test, |_| {
        thread::spawn(|| raise(Signal::SIGFPE));
        while !IS_PARKED.load(Relaxed) {
            thread::yield_now();
        }
        let all = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    all.wait();
                    segfault();
                });
            }
        });
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGSEGV));
    let text = String::from_utf8_lossy(&crashed.output.stderr);
    assert_eq!(text.matches("hotswap: SIGSEGV ").count(), 1, "{text}");
}

/// Others jump out of it (`siglongjmp`). The next crash may be the same thread's.
#[test]
fn a_handler_from_before_that_jumps_hides_no_other_crash() {
    static BEFORE: AtomicPtr<libc::ucontext_t> = AtomicPtr::new(ptr::null_mut());
    extern "C" fn jump(_: i32) {
        // SAFETY: `getcontext` has set it, in a function that has not returned.
        unsafe { libc::setcontext(BEFORE.load(Relaxed)) };
    }
    install(Signal::SIGFPE, jump, SaFlags::SA_ONSTACK);
    let crashed = crashed(
        "crashes::a_handler_from_before_that_jumps_hides_no_other_crash",
        |folder| {
            static CRASHES: AtomicUsize = AtomicUsize::new(0);
            let it = load(folder);
            let mut before = Box::new(MaybeUninit::<libc::ucontext_t>::uninit());
            BEFORE.store(before.as_mut_ptr(), Relaxed);
            // SAFETY: there is room for the context. What is used after the second return is in memory.
            unsafe { libc::getcontext(before.as_mut_ptr()) };
            if CRASHES.fetch_add(1, Relaxed) < 2 {
                raise(Signal::SIGFPE).unwrap();
            }
            it.with(|it| it.write_nowhere());
        },
    );
    assert_eq!(crashed.signal(), Some(Signal::SIGSEGV));
    let text = String::from_utf8_lossy(&crashed.output.stderr);
    let first = text.matches("hotswap: SIGFPE on thread ").count();
    assert_eq!(first, 2, "{text}");
    assert!(text.contains("hotswap: SIGSEGV (address 0x8)"), "{text}");
}

/// Ends the process, although the instruction is complete and is not run again.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_breakpoint() {
    let crashed = crashed("crashes::a_breakpoint", |_| {
        // SAFETY: it is a signal; that is the purpose.
        unsafe { std::arch::asm!("int3") };
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGTRAP));
    assert!(crashed.line().contains("\": in the host, /"));
}

/// The standard library gives its threads 8 KiB for handlers. A kilobyte is left for what is called after the report.
#[test]
fn a_report_needs_little_stack() {
    let crashed = crashed("crashes::a_report_needs_little_stack", |folder| {
        const BYTES: usize = 7 * 1024;
        let it = load(folder);
        let page = rustix::param::page_size();
        // SAFETY: a new mapping.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let all = page + BYTES;
            libc::mmap(ptr::null_mut(), all, libc::PROT_NONE, flags, -1, 0)
        };
        let usable = start.wrapping_byte_add(page);
        // SAFETY: all of it but the first page.
        let opened = unsafe { libc::mprotect(usable, BYTES, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(opened, 0);
        let stack = libc::stack_t {
            ss_sp: usable,
            ss_flags: 0,
            ss_size: BYTES,
        };
        // SAFETY: the stack stays mapped.
        let set = unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
        assert_eq!(set, 0);
        it.with(|it| it.fail_in_libc());
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGSEGV));
    let line = crashed.line();
    assert!(line.contains("probably because of generation 1"), "{line}");
}

/// The process ends, and the crash is recorded.
#[test]
fn nobody_reads_standard_error() {
    let crashed = crashed("crashes::nobody_reads_standard_error", |folder| {
        let it = load(folder);
        let (reader, mut writer) = io::pipe().unwrap();
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        while writer.write(&[0; 4096]).is_ok() {}
        fcntl_setfl(&writer, OFlags::empty()).unwrap();
        rustix::stdio::dup2_stderr(&writer).unwrap();
        it.with(|it| it.write_nowhere());
        drop(reader);
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGSEGV));
    assert_eq!(fs::read_dir(crashed.folder.path()).unwrap().count(), 1);
}

#[test]
fn a_crash_that_cannot_be_recorded_says_so() {
    let test = "crashes::a_crash_that_cannot_be_recorded_says_so";
    let crashed = crashed(test, |folder| {
        let it = load(folder);
        fs::remove_dir(folder).unwrap();
        it.with(|it| it.write_nowhere());
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGSEGV));
    let line = crashed.line();
    assert!(
        line.ends_with("), not recorded: No such file or directory"),
        "{line}"
    );
}

/// A library that the inner one calls is not the outer one's fault.
#[test]
fn a_call_inside_a_call() {
    let crashed = crashed("crashes::a_call_inside_a_call", |folder| {
        let (outer, inner) = (load(folder), load(folder));
        inner.swap(plugin("crashes")).unwrap();
        let call = |call: fn(&dyn Crashes)| outer.with(|_| inner.with(call));
        // The second thread uses what the first has left to name its calls, in another order.
        for body in [|_: &dyn Crashes| (), |it: &dyn Crashes| it.fail_in_libc()] {
            thread::scope(|scope| scope.spawn(|| call(body)).join()).unwrap();
        }
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGSEGV));
    let line = crashed.line();
    let said = "probably because of generation 2 of libcrashes.so, which the thread has called";
    assert!(line.contains(said), "{line}");
}

/// A name is cut to 15 bytes, and may be anything.
#[test]
fn a_name_of_a_thread_is_shown_escaped() {
    let test = "crashes::a_name_of_a_thread_is_shown_escaped";
    let crashed = crashed(test, |_| {
        let thread = thread::Builder::new().name("\u{202e}\"1234567890é".to_owned());
        let _ = thread.spawn(segfault).unwrap().join();
    });
    let line = crashed.line();
    assert!(
        line.contains(r#" "\u{202e}\"1234567890\xc3": in the host, /"#),
        "{line}"
    );
}

/// What a compiler at run time has made.
#[test]
fn code_of_no_file() {
    let crashed = crashed("crashes::code_of_no_file", |_| {
        // SAFETY: a new mapping, of zeros.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                1,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if cfg!(target_arch = "x86_64") {
            // SAFETY: the page can be written to. It is `ud2`; on ARM, zeros are `udf`.
            unsafe { page.cast::<[u8; 2]>().write([0x0f, 0x0b]) };
        }
        // SAFETY: it is a signal; that is the purpose.
        let code = unsafe { mem::transmute::<*mut libc::c_void, extern "C" fn()>(page) };
        code();
    });
    assert_eq!(crashed.signal(), Some(Signal::SIGILL));
    let line = crashed.line();
    assert!(line.ends_with(", in code of no file"), "{line}");
}

/// Whatever is in the place of a record, the check ends and says what it is.
#[test]
fn records_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    // SAFETY: the tests' own plugins.
    let trust = unsafe { Trust::vouch(policy(folder.path())) };
    let reason = || {
        let error = Hotswap::<dyn Crashes>::load(plugin("crashes"), &trust).unwrap_err();
        error.reason()
    };
    let sha256 = Sha256::of(&fs::read(plugin("crashes")).unwrap());
    let record = folder.path().join(sha256.to_string());
    let crashed = format!(
        "its code has crashed before; remove {} to have it tried again: ",
        record.display()
    );
    for (content, said) in [
        (b"".as_slice(), "(the record is empty)".to_owned()),
        (b"\n \n", "(the record is empty)".to_owned()),
        (b"first\nsecond\n\n", "second".to_owned()),
        (
            b"a\xff\x1b[2J\xe2\x80\xae",
            "a\u{fffd}\\u{1b}[2J\\u{202e}".to_owned(),
        ),
        (&[b'x'; 100_000], "x".repeat(4096)),
    ] {
        fs::write(&record, content).unwrap();
        assert!(
            reason().ends_with(&format!("{crashed}{said}")),
            "{}",
            reason()
        );
    }
    fs::remove_file(&record).unwrap();

    let unknown = format!(
        "the folder of crashes, {}: it is not a regular file, so whether these bytes have crashed is not known",
        record.display()
    );
    mknodat(CWD, &record, FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(reason().ends_with(&unknown), "{}", reason());
    fs::remove_file(&record).unwrap();
    symlink("/nowhere", &record).unwrap();
    assert!(reason().ends_with(&unknown), "{}", reason());
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    assert!(reason().ends_with(&unknown), "{}", reason());
}

#[test]
fn a_handler_is_installed_once() {
    let crashed = crashed("crashes::a_handler_is_installed_once", |_| {
        let error = crash::install_handler().unwrap_err();
        assert_eq!(error.to_string(), "crashes are reported already");
        std::process::exit(7);
    });
    assert_eq!(
        crashed.output.status.code(),
        Some(7),
        "{:?}",
        crashed.output
    );
}

#[test]
fn a_folder_that_is_missing_is_told_before_it_is_needed() {
    let folder = PathBuf::from("/no/such/folder");
    // SAFETY: the tests' own plugins.
    let trust = unsafe { Trust::vouch(policy(&folder)) };
    let error = Hotswap::<dyn Crashes>::load(plugin("crashes"), &trust).unwrap_err();
    assert_eq!(
        error.reason(),
        "trust: the folder of crashes, /no/such/folder: No such file or directory (os error 2)"
    );
}
