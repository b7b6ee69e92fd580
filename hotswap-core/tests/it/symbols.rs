//! Single symbols: found, compared, called, and their libraries gone when nobody has them any more.

use std::{
    ffi::c_int,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use abi_stable::std_types::{RStr, RString};
use hotswap_core::{
    Limits, Stage, State,
    event::Holder,
    loader::{Library, Loader, LoaderSettings, Symbol},
};
use hotswap_fixtures::symbols::{Greet, Point};

use crate::{
    alone::alone,
    fixtures::{SOON, plugin, trust},
    process::{images, keys_in_use, open_descriptors, status_bytes, threads},
};

fn loader() -> Loader {
    Loader::new(&trust()).unwrap()
}

fn greeting(greet: &Symbol<Greet>) -> String {
    greet.with(|greet| greet.0("Rust".into()).into_string())
}

#[track_caller]
fn gone(loader: &Loader, number: u64) {
    assert_eq!(loader.wait(number, SOON), Some(State::Unloaded));
}

fn lines(loader: &Loader) -> Vec<String> {
    let events = loader.events();
    events.try_iter().map(|event| event.to_string()).collect()
}

#[test]
fn a_symbol_is_called_and_its_library_leaves_with_it() {
    let loader = loader();
    let path = plugin("symbols_1");
    let greet = loader.load::<Greet>(&path, "greet").unwrap();
    assert_eq!(greeting(&greet), "Hello Rust");
    assert_eq!(greet.library().number(), 1);
    assert_eq!(greet.library().path(), path);
    let motto: Symbol<RStr<'_>> = greet.library().symbol("motto").unwrap();
    drop(greet);
    assert_eq!(loader.wait(1, Duration::ZERO), Some(State::Live));
    assert_eq!(motto.with(|motto| motto.to_string()), "early and often");
    drop(motto);
    gone(&loader, 1);
    let lines = lines(&loader);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(
        lines[0],
        format!("accepted generation 1: {}", path.display())
    );
    assert!(
        lines[1].starts_with("unloaded generation 1 after "),
        "{lines:?}"
    );
}

#[test]
fn it_outlives_its_loader_and_goes_to_other_threads() {
    fn check<T: Send + Sync>() {}
    check::<(Loader, Library, Symbol<Greet>)>();

    alone(
        "symbols::it_outlives_its_loader_and_goes_to_other_threads",
        || {
            let loader = loader();
            let greet = Arc::new(loader.load::<Greet>(plugin("symbols_1"), "greet").unwrap());
            drop(loader);
            let others: Vec<_> = (0..4)
                .map(|_| Arc::clone(&greet))
                .map(|greet| thread::spawn(move || greeting(&greet)))
                .collect();
            for other in others {
                assert_eq!(other.join().unwrap(), "Hello Rust");
            }
            assert_eq!(images().len(), 1);
            drop(greet);
            while !images().is_empty() || threads() > 2 {
                thread::sleep(Duration::from_millis(1));
            }
        },
    );
}

#[test]
fn several_versions_of_one_path_are_held_at_once() {
    let loader = loader();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libplugin.so");
    let load = |name: &str| {
        fs::copy(plugin(name), &path).unwrap();
        loader.load::<Greet>(&path, "greet").unwrap()
    };
    let (one, two, again) = (load("symbols_1"), load("symbols_2"), load("symbols_1"));
    fs::remove_file(&path).unwrap();
    assert_eq!(greeting(&one), "Hello Rust");
    assert_eq!(greeting(&two), "Hallo Rust");
    assert_eq!(greeting(&again), "Hello Rust");

    // What one image counts, the other does not.
    let calls = |of: &Symbol<Greet>| of.library().symbol::<&'static AtomicU32>("calls").unwrap();
    let count = |of: &Symbol<&'static AtomicU32>| of.with(|it| it.fetch_add(1, Ordering::Relaxed));
    assert_eq!(count(&calls(&one)), 7);
    assert_eq!(count(&calls(&one)), 8);
    assert_eq!(count(&calls(&again)), 7);

    drop((two, one));
    gone(&loader, 2);
    gone(&loader, 1);
    assert_eq!(greeting(&again), "Hello Rust");
    let error = loader.load::<Greet>(&path, "greet").unwrap_err();
    assert_eq!(error.reason(), "open: no such file");
    assert_eq!(greeting(&again), "Hello Rust");
}

#[test]
fn another_type_is_refused_with_both() {
    let loader = loader();
    let refused = |name: &str, error: hotswap_core::Error| {
        assert_eq!(error.stage(), Stage::Layout);
        assert_eq!(error.path(), plugin(name));
        error.reason()
    };
    let one = plugin("symbols_1");
    assert_eq!(
        refused(
            "symbols_1",
            loader.load::<Greet>(&one, "motto").unwrap_err()
        ),
        "layout: `motto`: expected Greet(fn(name: RStr<'a>) -> RString), found RStr<'a>"
    );
    assert_eq!(
        refused("symbols_1", loader.load::<u64>(&one, "greet").unwrap_err()),
        "layout: `greet`: expected u64, found Greet(fn(name: RStr<'a>) -> RString)"
    );
    assert_eq!(
        refused("symbols_1", loader.load::<u32>(&one, "calls").unwrap_err()),
        "layout: `calls`: expected u32, found &'a AtomicU32"
    );
    let two = plugin("symbols_2");
    let error = loader.load::<Point>(&two, "origin").unwrap_err();
    assert_eq!(
        refused("symbols_2", error),
        "layout: `origin`: `Point` has a field `z` more: expected `x`, `y`, found `x`, `y`, `z`"
    );
    // The files were mapped for that, and have left again.
    assert!(loader.libraries().is_empty(), "{:?}", loader.libraries());
    let origin = loader.load::<Point>(&one, "origin").unwrap();
    assert_eq!(origin.with(|it| (it.x, it.y)), (0, 0));
    let lines = lines(&loader);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[0].starts_with("refused /"), "{lines:?}");
    assert!(
        lines[0].ends_with("found RStr<'a>"),
        "nothing stays live: {lines:?}"
    );
    assert_eq!(loader.refused().len(), 4);
}

#[test]
fn a_missing_symbol_is_refused_with_those_that_there_are() {
    let loader = loader();
    let reason = |file: &str, name: &str| {
        let error = loader.load::<Greet>(plugin(file), name).unwrap_err();
        assert_eq!(error.stage(), Stage::Symbol);
        error.reason()
    };
    let there = "it exports `calls`, `greet`, `motto`, `origin`";
    assert_eq!(
        reason("symbols_1", "greeet"),
        format!("symbol: no `greeet`; {there}")
    );
    assert_eq!(reason("symbols_1", ""), format!("symbol: no ``; {there}"));
    assert_eq!(
        reason("symbols_1", "gre\0et"),
        format!(r"symbol: no `gre\u{{0}}et`; {there}")
    );
    // Not even a plain symbol of that name, and nothing of what has none at all is run.
    assert_eq!(
        reason("symbols_1", "twice"),
        format!("symbol: no `twice`; {there}")
    );
    assert_eq!(
        reason("constructor_exits_0", "greet"),
        "symbol: no `greet`; it exports no typed symbols"
    );
    let library = loader.open(plugin("symbols_1")).unwrap();
    let error = library.symbol::<Greet>("farewell").unwrap_err();
    assert_eq!(error.reason(), format!("symbol: no `farewell`; {there}"));
}

#[test]
fn a_library_says_what_it_exports() {
    let library = loader().open(plugin("symbols_1")).unwrap();
    let symbols: Vec<_> = library.symbols().iter().map(ToString::to_string).collect();
    assert_eq!(
        symbols,
        [
            "calls: &'a AtomicU32",
            "greet: Greet(fn(name: RStr<'a>) -> RString)",
            "motto: RStr<'a>",
            "origin: Point",
        ]
    );
    assert_eq!(loader().open(plugin("build_1")).unwrap().symbols(), []);
}

#[test]
fn damaged_symbols_are_refused() {
    let loader = loader();
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(plugin("symbols_1")).unwrap();
    let magic = abi_stable::library::AbiHeader::VALUE.magic_string;
    let header = |bytes: &[u8]| {
        let places: Vec<usize> = (0..bytes.len() - 40)
            .filter(|&place| bytes[place..].starts_with(&magic))
            .collect();
        assert_eq!(places.len(), 4, "one for each symbol");
        places
    };
    // All four alike: which is whose does not matter.
    let changed = |name: &str, offset: usize, value: u8| -> PathBuf {
        let mut bytes = bytes.clone();
        for place in header(&bytes) {
            bytes[place + offset] = value;
        }
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let reason = |path: &Path| loader.load::<Greet>(path, "greet").unwrap_err().reason();
    let path = changed("magic", 0, b'?');
    assert_eq!(reason(&path), "symbol: `greet` is not a typed symbol");
    let listed = loader.open(&path).unwrap().symbols();
    assert_eq!(
        listed[1].to_string(),
        "greet: `greet` is not a typed symbol"
    );
    assert_eq!(
        reason(&changed("minor", 36, 12)),
        "symbol: `greet` is of another version of abi_stable: expected 0.11.3, found 0.12"
    );
    assert_eq!(
        reason(&changed("version", 40, 9)),
        "symbol: `greet` is a typed symbol of version 9, expected 1"
    );
}

#[test]
fn plain_c_symbols_are_had_on_ones_word() {
    let loader = loader();
    let library = loader.open(plugin("symbols_1")).unwrap();
    // SAFETY: the fixture exports a function of this type under this name.
    let twice = unsafe { library.c_function::<extern "C" fn(c_int) -> c_int>("twice") }.unwrap();
    assert_eq!(twice.with(|twice| twice(21)), 42);
    // SAFETY: the fixture exports a constant of this type under this name.
    let answer = unsafe { library.c_static::<c_int>("answer") }.unwrap();
    assert_eq!(answer.with(|answer| **answer), 42);

    let function = |name: &str| {
        // SAFETY: nothing that is asked for below is found as a function.
        let found = unsafe { library.c_function::<extern "C" fn()>(name) };
        found.unwrap_err().reason()
    };
    assert_eq!(
        function("thrice"),
        "symbol: does not export thrice: no such symbol"
    );
    assert_eq!(
        function("answer"),
        "symbol: exports answer as a static, expected a function"
    );
    assert_eq!(
        function("malloc"),
        "symbol: does not export malloc: it only imports that symbol"
    );
    // SAFETY: any bytes are a number, should there be so many.
    let error = unsafe { library.c_static::<u64>("answer") }.unwrap_err();
    assert_eq!(
        error.reason(),
        "symbol: exports answer with 4 bytes, expected at least 8"
    );
    drop((twice, library));
    assert_eq!(answer.with(|answer| **answer), 42);
    drop(answer);
    gone(&loader, 1);
}

#[test]
fn a_function_of_a_c_library() {
    let loader = loader();
    let maths = fs::read_to_string("/proc/self/maps").unwrap();
    let maths = maths.lines().find_map(|line| {
        let path = &line[line.find('/')?..];
        path.contains("/libm.so").then(|| PathBuf::from(path))
    });
    let maths = loader
        .open(maths.expect("this test calls `cos` itself"))
        .unwrap();
    // SAFETY: `double cos(double)` (man 3 cos).
    let cos = unsafe { maths.c_function::<extern "C" fn(f64) -> f64>("cos") }.unwrap();
    assert_eq!(cos.with(|cos| cos(2.0)), 2f64.cos());
    drop((maths, cos));
    gone(&loader, 1);
}

#[test]
fn a_thread_that_has_used_it_is_named_until_it_has_left() {
    let settings = LoaderSettings {
        limits: Limits {
            drain_deadline: Duration::from_millis(20),
            ..Limits::default()
        },
        ..LoaderSettings::default()
    };
    let loader = Loader::with_settings(&trust(), settings).unwrap();
    let greet = loader.load::<Greet>(plugin("symbols_1"), "greet").unwrap();
    let greet = Arc::new(greet);
    let (finish, wait) = crossbeam_channel::bounded::<()>(0);
    let (called, is_called) = crossbeam_channel::bounded(1);
    let worker = thread::Builder::new().name("worker".to_owned());
    let its = Arc::clone(&greet);
    let worker = worker.spawn(move || {
        called.send(greeting(&its)).unwrap();
        // Not the last: so nobody tells this thread to leave.
        drop(its);
        called.send(String::new()).unwrap();
        assert!(wait.recv().is_err(), "it only waits");
    });
    let worker = worker.unwrap();
    assert_eq!(is_called.recv().unwrap(), "Hello Rust");
    is_called.recv().unwrap();
    drop(greet);
    loop {
        let state = loader.wait(1, Duration::from_millis(5));
        let Some(State::Draining { held_by }) = state else {
            panic!("{state:?}")
        };
        if let [Holder::Destructors { name, .. }] = &held_by[..] {
            assert_eq!(name, "worker");
            break;
        }
    }
    drop(finish);
    worker.join().unwrap();
    gone(&loader, 1);
}

#[test]
fn a_thread_leaves_old_libraries_when_it_calls_a_new_one() {
    let loader = loader();
    let load = |name: &str| Arc::new(loader.load::<Greet>(plugin(name), "greet").unwrap());
    let (send, receive) = crossbeam_channel::bounded::<Arc<Symbol<Greet>>>(0);
    let (answer, answers) = crossbeam_channel::bounded(0);
    let worker = thread::spawn(move || {
        for greet in receive {
            let text = greeting(&greet);
            drop(greet);
            answer.send(text).unwrap();
        }
    });
    let ask = |greet: &Arc<Symbol<Greet>>| {
        send.send(Arc::clone(greet)).unwrap();
        answers.recv().unwrap()
    };
    let (one, two) = (load("symbols_1"), load("symbols_2"));
    assert_eq!(ask(&one), "Hello Rust");
    drop(one);
    while loader.wait(1, Duration::from_millis(1)) != Some(State::Unloaded) {
        assert_eq!(ask(&two), "Hallo Rust");
    }
    drop(send);
    worker.join().unwrap();
}

#[test]
fn many_threads_load_at_once() {
    const THREADS: u64 = 4;
    const LOADS: u64 = 50;
    let loader = loader();
    let load = |number: u64| {
        let (name, greeting_then) = match number % 2 {
            0 => ("symbols_1", "Hello Rust"),
            _ => ("symbols_2", "Hallo Rust"),
        };
        let greet = loader.load::<Greet>(plugin(name), "greet").unwrap();
        assert_eq!(greeting(&greet), greeting_then);
        greet.library().number()
    };
    let mut numbers = thread::scope(|scope| {
        let threads = [(); THREADS as usize]
            .map(|()| scope.spawn(|| (0..LOADS).map(load).collect::<Vec<_>>()));
        threads.map(|it| it.join().unwrap()).concat()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=THREADS * LOADS).collect::<Vec<_>>());
    for number in numbers.into_iter().rev().take(64) {
        gone(&loader, number);
    }
}

#[test]
fn ten_thousand_cycles_leave_nothing() {
    alone("symbols::ten_thousand_cycles_leave_nothing", || {
        let loader = loader();
        let path = plugin("symbols_1");
        let cycle = || {
            let greet = loader.load::<Greet>(&path, "greet").unwrap();
            assert_eq!(greeting(&greet), "Hello Rust");
            greet.library().number()
        };
        let state = || (open_descriptors(), threads(), keys_in_use());
        // Without the pages of files, of which those of this program are mapped when they are first used.
        let anonymous_bytes = || status_bytes("RssAnon:");
        gone(&loader, cycle());
        for _ in 0..1_000 {
            cycle();
        }
        gone(&loader, cycle());
        let (before, bytes) = (state(), anonymous_bytes());
        for _ in 0..9_000 {
            cycle();
        }
        gone(&loader, cycle());
        let last = cycle();
        gone(&loader, last);
        while !images().is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(state(), before);
        let grown = anonymous_bytes().saturating_sub(bytes);
        println!(
            "{last} cycles; grown by {} KiB after the first 1,000",
            grown / 1024
        );
        assert!(grown < 1024 * 1024, "{grown} bytes");
    });
}

#[test]
fn text_of_a_library_must_be_copied_out() {
    let greet = loader()
        .load::<Greet>(plugin("symbols_1"), "greet")
        .unwrap();
    let text: String = greet.with(|greet| RString::into_string(greet.0("you".into())));
    drop(greet);
    assert_eq!(text, "Hello you");
}
