//! The libraries that a plugin needs: where they are looked for, whose they may be, and which of two answers.
//!
//! They are compiled for each test, from C: what counts is how they are linked.

mod trusted;

use std::{
    env,
    ffi::c_int,
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use crossbeam_channel::Receiver;
use hotswap_core::{
    Error, ErrorKind, Event, Policy, State, Trust,
    loader::{Library, Loader},
};
use rustix::process::{Signal, getpid, kill_process};
use tempfile::TempDir;

use crate::{
    alone::{alone, alone_with},
    fixtures::{SOON, has_glibc, trust, trust_with},
    process::deny,
};

/// A folder with libraries. The linker knows a library by its name in the whole process, so there is one at a time.
struct Folder {
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// Waits until what was loaded has left.
impl Drop for Folder {
    fn drop(&mut self) {
        while !thread::panicking() && is_mapped(&self.at("")) {
            thread::yield_now();
        }
    }
}

impl Folder {
    fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // So that no group can write to what the tests make, whatever the user who runs them prefers.
        rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
        Self {
            folder: TempDir::new().unwrap(),
            _turn: turn,
        }
    }

    /// With no links in it.
    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn folder(&self, name: &str) {
        fs::create_dir_all(self.at(name)).unwrap();
    }

    fn compile(&self, name: &str, source: &str, options: &[&str]) {
        let new = self.at("new");
        let mut compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&new)
            .args(["-x", "c", "-"])
            .arg(format!("-L{}", self.at("link").display()))
            // Not as some systems' compilers do it by themselves.
            .args(["-Wl,--no-as-needed", "-Wl,--enable-new-dtags"])
            .args(options)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let input = compiler.stdin.take();
        input.unwrap().write_all(source.as_bytes()).unwrap();
        assert!(compiler.wait().unwrap().success());
        fs::rename(new, self.at(name)).unwrap();
    }

    /// A library whose function `NAME` gives `number`. When it is loaded it makes the file `loaded`.
    fn library(&self, name: &str, path: &str, number: c_int, options: &[&str]) {
        let mark = self.at("loaded");
        let source = format!(
            "#include <fcntl.h>\n\
             __attribute__((constructor)) static void begin(void) {{ creat({mark:?}, 0600); }}\n\
             int {name}(void) {{ return {number}; }}"
        );
        self.compile(path, &source, options);
    }

    fn is_loaded(&self) -> bool {
        self.at("loaded").exists()
    }

    /// `libdep.so` for the linker of this test, with a name of its own or without one, and nowhere else.
    fn link_with_dep(&self, soname: Option<&str>) {
        self.folder("link");
        let soname = soname.map(|soname| format!("-Wl,-soname,{soname}"));
        let options: Vec<&str> = soname.iter().map(String::as_str).collect();
        self.library("dep", "link/libdep.so", 0, &options);
    }

    /// A plugin whose function `answer` calls `dep`, which a library gives.
    fn plugin(&self, path: &str, options: &[&str]) {
        let source = "int dep(void); int answer(void) { return dep(); }";
        self.compile(path, source, &[&["-ldep"], options].concat());
    }
}

const DEP: &str = "libdep.so";
/// The linker asks `libdep.so` first for what the file defines itself (`DT_AUXILIARY`).
const FILTER: &str = "-Wl,--auxiliary,libdep.so";
const SONAME: &str = "-Wl,-soname,libdep.so";

fn open(path: &Path) -> Result<(Loader, Library), Error> {
    open_with(path, &trust())
}

fn open_with(path: &Path, trust: &Trust) -> Result<(Loader, Library), Error> {
    let loader = Loader::new(trust)?;
    let library = loader.open(path)?;
    Ok((loader, library))
}

fn answer(library: &Library) -> c_int {
    // SAFETY: that is its type.
    let answer = unsafe { library.c_function::<extern "C" fn() -> c_int>("answer") }.unwrap();
    answer.with(|answer| answer())
}

/// Whether a file is mapped in this process.
fn is_mapped(path: &Path) -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.contains(path.to_str().unwrap())
}

/// Opens the plugin, and gives its answer when it has left again with all that it needs.
#[track_caller]
fn answers(folder: &Folder, path: &Path) -> c_int {
    let (loader, library) = open(path).unwrap_or_else(|error| panic!("{error}"));
    let answer = answer(&library);
    drop(library);
    assert_eq!(loader.wait(1, SOON), Some(State::Unloaded));
    assert!(!is_mapped(&folder.at("")), "what it needs has left, too");
    answer
}

#[test]
fn one_beside_the_plugin_is_found() {
    for soname in [Some(DEP), None] {
        for (rpath, place) in [
            ("$ORIGIN", "p/libdep.so"),
            ("${ORIGIN}", "p/libdep.so"),
            ("$ORIGIN/../lib", "lib/libdep.so"),
            ("/none:$ORIGIN/lib:$ORIGIN/../lib", "lib/libdep.so"),
        ] {
            for kind in ["-Wl,--enable-new-dtags", "-Wl,--disable-new-dtags"] {
                let folder = Folder::new();
                folder.link_with_dep(soname);
                folder.folder("p");
                folder.folder("lib");
                let options = soname.map_or(&[][..], |_| &[SONAME]);
                folder.library("dep", place, 7, options);
                let rpath_option = format!("-Wl,-rpath,{rpath}");
                folder.plugin("p/plugin.so", &[&rpath_option, kind]);
                // It is the plugin's real folder that counts.
                symlink("p/plugin.so", folder.at("link.so")).unwrap();
                for path in ["p/plugin.so", "link.so"] {
                    assert_eq!(
                        answers(&folder, &folder.at(path)),
                        7,
                        "{soname:?} {rpath} {kind}"
                    );
                }
            }
        }
    }
}

/// As in one that is older than faccessat2(2).
#[test]
fn one_is_found_in_a_sandbox_that_does_not_say_who_may_read() {
    let test = "libraries::one_is_found_in_a_sandbox_that_does_not_say_who_may_read";
    alone(test, || {
        let folder = Folder::new();
        folder.link_with_dep(Some(DEP));
        folder.library("dep", DEP, 7, &[SONAME]);
        folder.plugin("plugin.so", &["-Wl,-rpath,$ORIGIN"]);
        deny([libc::SYS_faccessat2; 2], libc::EPERM);
        assert_eq!(answers(&folder, &folder.at("plugin.so")), 7);
    });
}

/// The linker finds the library before it looks there, and looks there all the same when it is asked what is mapped.
#[test]
fn a_fifo_in_the_folders_of_the_environment_is_refused() {
    let environment = TempDir::new().unwrap();
    let path = environment.path().to_str().unwrap().to_owned();
    let test = "libraries::a_fifo_in_the_folders_of_the_environment_is_refused";
    alone_with(test, &[("LD_LIBRARY_PATH", &path)], || {
        let environment = PathBuf::from(env::var_os("LD_LIBRARY_PATH").unwrap());
        let folder = Folder::new();
        folder.link_with_dep(Some(DEP));
        folder.library("dep", DEP, 7, &[SONAME]);
        let rpath = format!("-Wl,-rpath,{}", folder.at("").display());
        folder.plugin("plugin.so", &[&rpath, "-Wl,--disable-new-dtags"]);
        // The second is for one kind of processor.
        for place in ["", "glibc-hwcaps/x86-64-v2"] {
            let fifo = environment.join(place).join(DEP);
            fs::create_dir_all(fifo.parent().unwrap()).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
            let error = open(&folder.at("plugin.so")).err().unwrap().to_string();
            let expected = format!("{}: a FIFO, not a file", fifo.display());
            assert!(error.contains(&expected), "{error}");
            assert!(!folder.is_loaded());
            fs::remove_file(fifo).unwrap();
        }
    });
}

#[test]
fn one_that_is_a_link_or_has_another_name_of_its_own_is_found() {
    for soname in ["-Wl,-soname,libdep.so.3", SONAME] {
        let folder = Folder::new();
        folder.link_with_dep(Some(DEP));
        folder.library("dep", "dep-3.1", 3, &[soname]);
        symlink("dep-3.1", folder.at(DEP)).unwrap();
        folder.plugin("plugin.so", &["-Wl,-rpath,$ORIGIN"]);
        assert_eq!(answers(&folder, &folder.at("plugin.so")), 3, "{soname}");
    }
}

#[test]
fn those_that_a_library_needs_are_found_by_its_own_list_and_by_those_above() {
    for (list_of_plugin, list_of_library) in [
        // Older lists count for all below.
        (&["-Wl,-rpath,$ORIGIN", "-Wl,--disable-new-dtags"][..], None),
        (&["-Wl,-rpath,$ORIGIN"], Some("-Wl,-rpath,$ORIGIN")),
    ] {
        let folder = Folder::new();
        folder.folder("link");
        folder.library("below", "link/libbelow.so", 5, &[]);
        fs::copy(folder.at("link/libbelow.so"), folder.at("libbelow.so")).unwrap();
        let source = "int below(void); int dep(void) { return below() + 1; }";
        let options: Vec<&str> = ["-lbelow"].into_iter().chain(list_of_library).collect();
        folder.compile("link/libdep.so", source, &options);
        fs::copy(folder.at("link/libdep.so"), folder.at(DEP)).unwrap();
        folder.plugin("plugin.so", list_of_plugin);
        assert_eq!(answers(&folder, &folder.at("plugin.so")), 6);
    }
}

/// With a `libdep.so` whose `body` has a function `dep`, which has the system call a function of the library later: the
/// library stays when the plugin leaves. It is called when the thread that has used the plugin has ended and `trigger`
/// has run.
fn is_called_later(test: &str, body: &str, trigger: fn()) {
    is_called_later_under(|_| {}, test, body, trigger);
}

fn is_called_later_under(policy: fn(&mut Policy), test: &str, body: &str, trigger: fn()) {
    alone(test, || {
        let folder = Folder::new();
        folder.link_with_dep(Some(DEP));
        let (done, kept) = (folder.at("done"), folder.at(DEP));
        let source = format!(
            "#include <fcntl.h>\n#include <pthread.h>\n#include <signal.h>\n\
             static void called(void) {{ creat({done:?}, 0600); }}\n{body}"
        );
        folder.compile(DEP, &source, &[SONAME, "-lrt"]);
        folder.plugin("plugin.so", &["-Wl,-rpath,$ORIGIN"]);
        let path = folder.at("plugin.so");
        let user = thread::spawn(move || {
            let trust = trust_with(|it| {
                it.any_owner = true;
                policy(it);
            });
            let (loader, library) = open_with(&path, &trust).unwrap();
            assert_eq!(answer(&library), 0);
            drop(library);
            assert_eq!(loader.wait(1, SOON), Some(State::Unloaded));
        });
        user.join().unwrap();
        trigger();
        while !done.exists() {
            thread::yield_now();
        }
        assert!(is_mapped(&kept));
        // It would wait for the library to leave.
        fs::remove_dir_all(folder.at("")).unwrap();
        std::mem::forget(folder);
    });
}

#[test]
fn one_that_is_called_when_a_thread_ends_stays() {
    is_called_later(
        "libraries::one_that_is_called_when_a_thread_ends_stays",
        "static void end(void *value) { called(); }\n\
         int dep(void) {\n\
             pthread_key_t key;\n\
             return pthread_key_create(&key, end) || pthread_setspecific(key, &end);\n\
         }",
        || {},
    );
}

#[test]
fn one_that_is_called_when_a_signal_arrives_stays() {
    is_called_later(
        "libraries::one_that_is_called_when_a_signal_arrives_stays",
        "static void end(int signal) { called(); }\n\
         int dep(void) { return signal(SIGUSR1, end) == SIG_ERR; }",
        || kill_process(getpid(), Signal::USR1).unwrap(),
    );
}

/// The system does not say which timers there are.
#[test]
fn one_that_a_timer_calls_stays() {
    is_called_later(
        "libraries::one_that_a_timer_calls_stays",
        "#include <string.h>\n#include <time.h>\n\
         static void end(union sigval value) { called(); }\n\
         int dep(void) {\n\
             timer_t timer;\n\
             struct sigevent event;\n\
             struct itimerspec time = { { 0, 0 }, { 0, 500000000 } };\n\
             memset(&event, 0, sizeof event);\n\
             event.sigev_notify = SIGEV_THREAD;\n\
             event.sigev_notify_function = end;\n\
             return timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &time, 0);\n\
         }",
        || {},
    );
}

/// The host vouches for what it does to plugins, and not for when its threads end.
#[test]
fn a_harmless_one_whose_threads_run_on_stays() {
    is_called_later_under(
        |policy| policy.harmless_libraries.push("libdep".to_owned()),
        "libraries::a_harmless_one_whose_threads_run_on_stays",
        "#include <unistd.h>\n\
         static void *work(void *value) { usleep(500000); called(); return value; }\n\
         int dep(void) {\n\
             pthread_t thread;\n\
             return pthread_create(&thread, 0, work, 0) || pthread_detach(thread);\n\
         }",
        || {},
    );
}

/// One of the plugin, and one of a library that it needs.
#[test]
fn a_filter_may_be_missing() {
    const SELF_SUFFICIENT: &str = "int dep(void) { return 1; } int answer(void) { return dep(); }";
    const NEEDS_ANOTHER: &str = "int below(void); int answer(void) { return below(); }";
    let folder = Folder::new();
    folder.folder("link");
    let options = ["-Wl,-rpath,$ORIGIN", FILTER];
    folder.compile("plugin.so", SELF_SUFFICIENT, &options);
    let below = SELF_SUFFICIENT.replace("answer", "below");
    folder.compile("link/libbelow.so", &below, &options);
    fs::copy(folder.at("link/libbelow.so"), folder.at("libbelow.so")).unwrap();
    let options = ["-lbelow", "-Wl,-rpath,$ORIGIN"];
    folder.compile("needs_another.so", NEEDS_ANOTHER, &options);
    for plugin in ["plugin.so", "needs_another.so"] {
        if !has_glibc(32) {
            let refusal = open(&folder.at(plugin)).unwrap_err();
            let is_filter = |kind: &ErrorKind| matches!(kind, ErrorKind::Filter);
            let is_of_library =
                matches!(refusal.kind(), ErrorKind::Library { cause, .. } if is_filter(cause));
            assert!(is_filter(refusal.kind()) || is_of_library, "{refusal}");
            continue;
        }
        assert_eq!(answers(&folder, &folder.at(plugin)), 1, "{plugin}");
        folder.library("dep", DEP, 7, &[SONAME]);
        assert_eq!(answers(&folder, &folder.at(plugin)), 7, "{plugin}");
        fs::remove_file(folder.at(DEP)).unwrap();
    }
}

/// The library itself says nowhere where that is.
#[test]
fn what_is_needed_by_one_that_is_opened_first_is_found_by_the_plugin_s_list() {
    for kind in ["-Wl,--enable-new-dtags", "-Wl,--disable-new-dtags"] {
        for name in [Some("-Wl,-soname,libbelow.so"), None] {
            let folder = Folder::new();
            folder.folder("link");
            folder.folder("opt");
            let options: Vec<&str> = name.into_iter().collect();
            folder.library("below", "link/libbelow.so", 5, &options);
            fs::copy(folder.at("link/libbelow.so"), folder.at("opt/libbelow.so")).unwrap();
            let source = "int below(void); int dep(void) { return below() + 1; }";
            folder.compile("link/libdep.so", source, &["-lbelow", SONAME]);
            fs::copy(folder.at("link/libdep.so"), folder.at(DEP)).unwrap();
            let list = format!("-Wl,-rpath,$ORIGIN:{}", folder.at("opt").display());
            let source =
                "int dep(void); int below(void); int answer(void) { return dep() + below(); }";
            folder.compile("plugin.so", source, &["-ldep", "-lbelow", &list, kind]);
            assert_eq!(
                answers(&folder, &folder.at("plugin.so")),
                11,
                "{kind} {name:?}"
            );
        }
    }
}

/// By the empty entry, the linker would take a library of the current folder for any name.
#[test]
fn one_of_the_current_folder_is_not_taken_for_one_beside_the_plugin() {
    let test = "libraries::one_of_the_current_folder_is_not_taken_for_one_beside_the_plugin";
    alone_with(test, &[("LD_LIBRARY_PATH", "/none:")], || {
        for soname in [None, Some(SONAME)] {
            let folder = Folder::new();
            folder.link_with_dep(soname.map(|_| DEP));
            let options: Vec<&str> = soname.into_iter().collect();
            folder.library("dep", DEP, 7, &options);
            folder.folder("here");
            let source = "__attribute__((constructor)) static void begin(void) { __builtin_trap(); }\n\
                          int dep(void) { return 8; }";
            folder.compile("here/libdep.so", source, &options);
            folder.plugin("plugin.so", &["-Wl,-rpath,$ORIGIN"]);
            env::set_current_dir(folder.at("here")).unwrap();
            assert_eq!(answers(&folder, &folder.at("plugin.so")), 7, "{soname:?}");
            env::set_current_dir("/").unwrap();
        }
    });
}

/// From the copy, the linker knows another `$ORIGIN`.
#[test]
fn what_the_linker_takes_for_the_plugin_s_folder_is_not_searched() {
    let folder = Folder::new();
    folder.link_with_dep(Some(DEP));
    folder.folder("p/p/p/p");
    folder.folder("good");
    folder.folder("other");
    folder.library("dep", "good/libdep.so", 7, &[SONAME]);
    let source = "__attribute__((constructor)) static void begin(void) { __builtin_trap(); }\n\
                  int dep(void) { return 8; }";
    folder.compile("other/libdep.so", source, &[SONAME]);
    fs::set_permissions(folder.at("other"), fs::Permissions::from_mode(0o777)).unwrap();
    let (other, good) = (folder.at("other"), folder.at("good"));
    let list = format!(
        "-Wl,-rpath,$ORIGIN/../../..{}:{}",
        other.display(),
        good.display()
    );
    folder.plugin("p/p/p/p/plugin.so", &[&list]);
    for any_owner in [true, false] {
        let trust = trust_with(|policy| policy.any_owner = any_owner);
        let (loader, library) = open_with(&folder.at("p/p/p/p/plugin.so"), &trust).unwrap();
        assert_eq!(answer(&library), 7, "{any_owner}");
        drop(library);
        assert_eq!(loader.wait(1, SOON), Some(State::Unloaded));
    }
}

/// Both need the other one.
#[test]
fn libraries_that_need_each_other_are_found() {
    let folder = Folder::new();
    folder.folder("link");
    let options = |other: &str| vec![format!("-l{other}"), "-Wl,-rpath,$ORIGIN".to_owned()];
    folder.library("other", "link/libother.so", 5, &[]);
    for (name, other) in [("dep", "other"), ("other", "dep")] {
        let source = format!("int {other}(void); int {name}(void) {{ return 4; }}");
        let options = options(other);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        folder.compile(&format!("link/lib{name}.so"), &source, &options);
    }
    for name in [DEP, "libother.so"] {
        fs::copy(folder.at("link").join(name), folder.at(name)).unwrap();
    }
    folder.plugin("plugin.so", &["-Wl,-rpath,$ORIGIN"]);
    assert_eq!(answers(&folder, &folder.at("plugin.so")), 4);
}

#[test]
fn files_that_the_linker_passes_over_are_passed_over() {
    let folder = Folder::new();
    folder.link_with_dep(Some(DEP));
    for name in ["text", "other", "folder/libdep.so"] {
        folder.folder(name);
    }
    fs::write(folder.at("text/libdep.so"), "INPUT(libreal.so)").unwrap();
    let mut bytes = fs::read(folder.at("link/libdep.so")).unwrap();
    bytes[18] ^= 0x40;
    fs::write(folder.at("other/libdep.so"), bytes).unwrap();
    folder.library("dep", DEP, 9, &[SONAME]);
    let rpath = "-Wl,-rpath,$ORIGIN/text:$ORIGIN/other:$ORIGIN/folder:$ORIGIN";
    folder.plugin("plugin.so", &[rpath]);
    assert_eq!(answers(&folder, &folder.at("plugin.so")), 9);
}

/// In a folder that only hotswap looks into, which is the plugin's own, such a file is passed over.
#[test]
fn what_is_no_object_stops_the_linker_where_it_looks() {
    let folder = Folder::new();
    folder.link_with_dep(Some(DEP));
    folder.folder("text");
    folder.library("dep", DEP, 9, &[SONAME]);
    let place = |name| folder.at(name).display().to_string();
    let rpath = format!("-Wl,-rpath,{}:{}", place("text"), place(""));
    folder.plugin("plugin.so", &[&rpath]);
    for (text, problem) in [
        ("INPUT(libreal.so)".to_owned(), "file too short"),
        ("INPUT(libreal.so) ".repeat(10), "invalid ELF header"),
    ] {
        fs::write(folder.at("text/libdep.so"), text).unwrap();
        let error = open(&folder.at("plugin.so")).unwrap_err();
        let reason = format!("link: {}: {problem}", place("text/libdep.so"));
        assert_eq!(error.reason(), reason);
        assert!(!folder.is_loaded());
    }
}

/// A plugin that does not link, with `libdep.so` beside it, whose initialisers have run by then.
fn not_linking() -> Folder {
    const SOURCE: &str =
        "int dep(void); int missing(void); int answer(void) { return dep() + missing(); }";
    let folder = Folder::new();
    folder.link_with_dep(Some(DEP));
    folder.compile("plugin.so", SOURCE, &["-ldep", "-Wl,-rpath,$ORIGIN"]);
    folder
}

const NOT_LINKING: &str = "link: undefined symbol: missing";

#[test]
fn one_that_leaves_nothing_is_closed_when_the_plugin_does_not_link() {
    let folder = not_linking();
    folder.library("dep", DEP, 1, &[SONAME]);
    let error = open(&folder.at("plugin.so")).unwrap_err();
    assert_eq!(error.reason(), NOT_LINKING);
    assert!(folder.is_loaded() && !is_mapped(&folder.at(DEP)));
}

/// With a `libdep.so` that has an initialiser, `begin`, which has a function of the library write the file `done` when
/// there is the file `wanted`, or when `trigger` is called: the library stays mapped, and the function runs.
fn stays(test: &str, begin: &str, options: &[&str], trigger: fn()) {
    alone(test, || {
        let folder = not_linking();
        let (wanted, done, kept) = (folder.at("wanted"), folder.at("done"), folder.at(DEP));
        // One that leaves was there before, and perhaps at the same address.
        folder.library("dep", DEP, 1, &[SONAME]);
        let error = open(&folder.at("plugin.so")).unwrap_err();
        assert_eq!(error.reason(), NOT_LINKING);
        assert!(!is_mapped(&kept));
        let source = format!(
            "#include <fcntl.h>\n#include <pthread.h>\n#include <signal.h>\n#include <unistd.h>\n\
             #define WANTED {wanted:?}\n#define DONE {done:?}\n{begin}\n\
             int dep(void) {{ return 2; }}"
        );
        folder.compile(DEP, &source, &[&[SONAME], options].concat());
        let error = open(&folder.at("plugin.so")).unwrap_err();
        let reason = format!(
            "{NOT_LINKING}; libraries that stay mapped, as they may run threads or be called back: {}",
            kept.display()
        );
        assert_eq!(error.reason(), reason);
        assert!(is_mapped(&kept));
        fs::write(wanted, "").unwrap();
        trigger();
        while !done.exists() {
            thread::yield_now();
        }
        // It would wait for the library to leave.
        fs::remove_dir_all(folder.at("")).unwrap();
        std::mem::forget(folder);
    });
}

#[test]
fn one_that_may_have_threads_stays_when_the_plugin_does_not_link() {
    stays(
        "libraries::one_that_may_have_threads_stays_when_the_plugin_does_not_link",
        "static void *run(void *unused) {
             while (access(WANTED, F_OK)) usleep(100);
             creat(DONE, 0600);
             return unused;
         }
         __attribute__((constructor)) static void begin(void) {
             pthread_t thread;
             pthread_create(&thread, 0, run, 0);
         }",
        &["-pthread"],
        || {},
    );
}

#[test]
fn one_that_has_a_signal_handler_stays_when_the_plugin_does_not_link() {
    stays(
        "libraries::one_that_has_a_signal_handler_stays_when_the_plugin_does_not_link",
        "static void handle(int signal) { creat(DONE, 0600); }
         __attribute__((constructor)) static void begin(void) { signal(SIGUSR2, handle); }",
        &[],
        || kill_process(getpid(), Signal::USR2).unwrap(),
    );
}

/// One that keeps a function of it calls it when the process ends.
#[test]
fn one_that_uses_what_keeps_functions_stays_when_the_plugin_does_not_link() {
    stays(
        "libraries::one_that_uses_what_keeps_functions_stays_when_the_plugin_does_not_link",
        "int on_exit(void (*)(int, void *), void *);
         static void leave(int status, void *unused) { creat(DONE, 0600); }
         __attribute__((constructor)) static void begin(void) {
             on_exit(leave, 0);
             creat(DONE, 0600);
         }",
        &[],
        || {},
    );
}

/// A library beside the plugin is linked before it; one that the linker finds by itself is linked with it.
#[test]
fn one_that_takes_symbols_from_the_plugin_has_to_be_where_the_linker_looks() {
    let folder = Folder::new();
    folder.link_with_dep(Some(DEP));
    let source = "int of_plugin(void); int dep(void) { return of_plugin(); }";
    folder.compile(DEP, source, &[SONAME, "-Wl,-z,now"]);
    let source =
        "int dep(void); int of_plugin(void) { return 8; } int answer(void) { return dep(); }";
    folder.compile("plugin.so", source, &["-ldep", "-Wl,-rpath,$ORIGIN"]);
    let error = open(&folder.at("plugin.so")).unwrap_err();
    let reason = format!(
        "link: needs libdep.so: {}: undefined symbol: of_plugin",
        folder.at(DEP).display()
    );
    assert_eq!(error.reason(), reason);
    let rpath = format!("-Wl,-rpath,{}", folder.at("").display());
    folder.compile("plugin.so", source, &["-ldep", &rpath]);
    // It has an address of the plugin, and would pin it.
    let trust = trust_with(|policy| {
        policy.any_owner = true;
        policy.harmless_libraries = vec!["libdep".to_owned()];
    });
    let (loader, library) = open_with(&folder.at("plugin.so"), &trust).unwrap();
    assert_eq!(answer(&library), 8);
    drop(library);
    assert_eq!(loader.wait(1, SOON), Some(State::Unloaded));
}

#[test]
fn one_that_is_nowhere_is_the_linkers_to_tell() {
    let folder = Folder::new();
    folder.link_with_dep(Some("libnowhere-7.so"));
    folder.plugin("plugin.so", &["-Wl,-rpath,$ORIGIN"]);
    let error = open(&folder.at("plugin.so")).unwrap_err();
    let reason = "link: libnowhere-7.so: cannot open shared object file: No such file or directory";
    assert_eq!(error.reason(), reason);
}

/// The linker would take the plugin itself for it.
#[test]
fn a_plugin_that_needs_its_own_name_is_refused() {
    let folder = Folder::new();
    folder.link_with_dep(Some(DEP));
    folder.library("dep", DEP, 7, &[SONAME]);
    folder.plugin("plugin.so", &["-Wl,-rpath,$ORIGIN", SONAME]);
    let error = open(&folder.at("plugin.so")).unwrap_err();
    let reason = format!(
        "open: needs libdep.so: that is the name (DT_SONAME) of the plugin {}, which the linker would take for the library",
        folder.at("plugin.so").display()
    );
    assert_eq!(error.reason(), reason);
    assert!(!folder.is_loaded());
}

/// Whoever has taken the plugin for the library keeps it mapped.
#[test]
fn a_plugin_that_has_the_name_of_a_library_is_named() {
    let test = "libraries::a_plugin_that_has_the_name_of_a_library_is_named";
    alone(test, || {
        let folder = Folder::new();
        folder.link_with_dep(Some(DEP));
        folder.compile("named.so", "int dep(void) { return 1; }", &[SONAME]);
        folder.plugin("plugin.so", &["-Wl,-rpath,$ORIGIN"]);
        let (loader, _named) = open(&folder.at("named.so")).unwrap();
        let events = loader.events();
        let error = loader.open(folder.at("plugin.so")).unwrap_err();
        let reason = format!(
            "open: needs libdep.so: that is the name (DT_SONAME) of the plugin {}, which the linker would take for the \
             library",
            folder.at("named.so").display()
        );
        assert_eq!(error.reason(), reason);

        folder.library("dep", DEP, 7, &[SONAME]);
        let library = loader.open(folder.at("plugin.so")).unwrap();
        assert_eq!(answer(&library), 1, "the linker knows it by its name");
        let expected = format!(
            "old-library generation 2: the old libdep.so still answers: it was loaded from {}, and {} is not loaded",
            folder.at("named.so").display(),
            folder.at(DEP).display()
        );
        assert_eq!(said_of_old(&events), [expected]);
    });
}

#[test]
fn one_that_is_damaged_is_refused_before_it_is_loaded() {
    let folder = Folder::new();
    folder.link_with_dep(Some(DEP));
    let bytes = fs::read(folder.at("link/libdep.so")).unwrap();
    fs::write(folder.at(DEP), &bytes[..bytes.len() / 2]).unwrap();
    folder.plugin("plugin.so", &["-Wl,-rpath,$ORIGIN"]);
    let error = open(&folder.at("plugin.so")).unwrap_err();
    let start = format!(
        "open: needs libdep.so: {}: truncated: needs ",
        folder.at(DEP).display()
    );
    assert!(error.reason().starts_with(&start), "{error}");
}

/// What the linker takes from the current folder, hotswap does not.
#[test]
fn the_current_folder_is_not_looked_into() {
    alone("libraries::the_current_folder_is_not_looked_into", || {
        for rpath in ["", ".", "lib", ":/none"] {
            let folder = Folder::new();
            folder.link_with_dep(Some(DEP));
            for name in ["here/lib", "good"] {
                folder.folder(name);
            }
            for name in ["here/libdep.so", "here/lib/libdep.so"] {
                folder.library("dep", name, 1, &[SONAME]);
            }
            std::env::set_current_dir(folder.at("here")).unwrap();
            // An empty list is none.
            let list = if rpath.is_empty() { ":" } else { rpath };
            folder.plugin("plugin.so", &[&format!("-Wl,-rpath,{list}")]);
            let error = open(&folder.at("plugin.so")).unwrap_err();
            let entry = list.split(':').next().unwrap();
            let reason = format!(
                "trust: needs libdep.so: it is only in the folder {entry:?}, which is relative to the current folder, and \
                 libraries are not looked for there"
            );
            assert_eq!(error.reason(), reason);
            assert!(!folder.is_loaded());

            folder.library("dep", "good/libdep.so", 2, &[SONAME]);
            let list = format!("-Wl,-rpath,{list}:{}", folder.at("good").display());
            folder.plugin("plugin.so", &[&list]);
            assert_eq!(answers(&folder, &folder.at("plugin.so")), 2, "{list}");
        }
    });
}

/// What was said of old libraries since the last time.
fn said_of_old(events: &Receiver<Event>) -> Vec<String> {
    let lines = events.try_iter().map(|event| event.to_string());
    lines
        .filter(|line| line.starts_with("old-library"))
        .collect()
}

#[test]
fn an_old_one_that_still_answers_is_named() {
    for soname in [Some(DEP), None] {
        let options = soname.map_or(&[][..], |_| &[SONAME]);
        for rpath in ["$ORIGIN", "absolute"] {
            let folder = Folder::new();
            folder.link_with_dep(soname);
            for (name, number) in [("v1", 1), ("v2", 2)] {
                folder.folder(name);
                folder.library("dep", &format!("{name}/libdep.so"), number, options);
                let rpath = match rpath {
                    "absolute" => folder.at(name).display().to_string(),
                    other => other.to_owned(),
                };
                let rpath = format!("-Wl,-rpath,{rpath}");
                folder.plugin(&format!("{name}/plugin.so"), &[&rpath]);
            }
            let (v1, v2) = (folder.at("v1/libdep.so"), folder.at("v2/libdep.so"));
            let (loader, first) = open(&folder.at("v1/plugin.so")).unwrap();
            let events = loader.events();
            assert_eq!(answer(&first), 1);

            // The same once more is not old.
            let again = loader.open(folder.at("v1/plugin.so")).unwrap();
            assert_eq!((answer(&again), said_of_old(&events).len()), (1, 0));

            let second = loader.open(folder.at("v2/plugin.so")).unwrap();
            assert_eq!(answer(&second), 1, "the linker knows it by its name");
            let expected = format!(
                "old-library generation 3: the old libdep.so still answers: it was loaded from {}, and {} is not loaded",
                v1.display(),
                v2.display()
            );
            assert_eq!(said_of_old(&events), [expected]);
            let old = &loader.libraries()[2].old_libraries;
            assert_eq!(old.len(), 1);
            assert_eq!(
                (&*old[0].name, &old[0].mapped, &old[0].found),
                (DEP, &v1, &v2)
            );

            // A new build in the same place.
            folder.library("dep", "v1/libdep.so", 3, options);
            let third = loader.open(folder.at("v1/plugin.so")).unwrap();
            assert_eq!(answer(&third), 1);
            let expected = format!(
                "old-library generation 4: the old libdep.so still answers: {} was replaced after it was loaded",
                v1.display()
            );
            assert_eq!(said_of_old(&events), [expected]);

            // When nobody has it any more, the new one is loaded.
            drop((first, again, second, third));
            for number in 1..=4 {
                assert_eq!(loader.wait(number, SOON), Some(State::Unloaded));
            }
            let library = loader.open(folder.at("v1/plugin.so")).unwrap();
            assert_eq!((answer(&library), said_of_old(&events).len()), (3, 0));
        }
    }
}
