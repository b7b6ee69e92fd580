//! Single functions: found, compared, called, and their libraries gone when nobody has them any more. C symbols too.

use std::{
    ffi::c_int,
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use hotswap_core::{
    Hotswap, Limits, Stage, State,
    event::Holder,
    loader::{Library, Loader, LoaderSettings},
    reasons::{Fault, FaultKind},
};
use hotswap_fixtures::desk::{Desk, Listener, Session};

use crate::{
    alone::alone,
    fixtures::{SOON, plugin, trust},
    process::{images, keys_in_use, open_descriptors, status_bytes, threads},
};

#[forbid(unsafe_code)]
mod types {
    /// From a name to a greeting.
    #[hotswap_sdk::function]
    pub(crate) type Greet = fn(name: &str) -> String;
}

pub(crate) use types::Greet;

#[hotswap_sdk::function]
type Calls = fn() -> u32;

/// What `functions_1` has.
#[hotswap_sdk::data]
#[derive(Debug, PartialEq, Eq)]
struct Point {
    x: u32,
    y: u32,
}

fn loader() -> Loader {
    Loader::new(&trust()).unwrap()
}

fn greeting(greet: &Greet) -> String {
    greet.call("Rust").unwrap()
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
fn a_function_is_called_and_its_library_leaves_with_it() {
    let loader = loader();
    let path = plugin("functions_1");
    let greet = loader.function::<Greet>(&path, "greet").unwrap();
    assert_eq!(greet.call("Rust"), Ok("Hello Rust".to_owned()));
    let other = greet.clone();
    drop(greet);
    assert_eq!(loader.wait(1, Duration::ZERO), Some(State::Live));
    assert_eq!(other.call("you"), Ok("Hello you".to_owned()));
    drop(other);
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
fn several_functions_of_one_library() {
    #[hotswap_sdk::function]
    type Add = fn(u64, u64) -> u64;
    #[hotswap_sdk::function]
    type Join = fn(first: &str, second: Option<&str>) -> String;
    #[hotswap_sdk::function]
    type Mean = fn(numbers: &[f64]) -> Result<f64, String>;
    #[hotswap_sdk::function]
    type Shift = fn(point: &Point, by: (u32, u32)) -> Point;

    let loader = loader();
    let library = loader.open(plugin("functions_1")).unwrap();
    let add: Add = library.function("add").unwrap();
    let join: Join = library.function("join").unwrap();
    let mean: Mean = library.function("mean").unwrap();
    let shift: Shift = library.function("shift").unwrap();
    let name: Name = library.function("type").unwrap();
    drop(library);
    assert_eq!(add.call(40, 2), Ok(42));
    assert_eq!(join.call("a", Some("b")), Ok("ab".to_owned()));
    assert_eq!(join.call("a", None), Ok("a".to_owned()));
    assert_eq!(mean.call(&[1.0, 2.0]), Ok(Ok(1.5)));
    assert_eq!(mean.call(&[]), Ok(Err("no numbers".to_owned())));
    let moved = shift.call(&Point { x: 1, y: 2 }, (10, 20));
    assert_eq!(moved, Ok(Point { x: 11, y: 22 }));
    assert_eq!(name.call(), Ok("a raw name".to_owned()));
    drop((add, join, mean, shift, name));
    gone(&loader, 1);
}

#[hotswap_sdk::function]
type Name = fn() -> String;

/// Neither the names of parameters nor `&` are a part of what is compared.
#[test]
fn a_host_may_write_another_signature_of_the_same_types() {
    #[hotswap_sdk::function]
    type OfText = fn(text: String) -> String;
    #[hotswap_sdk::function]
    type Mean = fn(Vec<f64>) -> Result<f64, String>;

    let library = loader().open(plugin("functions_1")).unwrap();
    let greet: OfText = library.function("greet").unwrap();
    assert_eq!(greet.call("Rust".to_owned()), Ok("Hello Rust".to_owned()));
    let mean: Mean = library.function("mean").unwrap();
    assert_eq!(mean.call(vec![1.0]), Ok(Ok(1.0)));
}

#[test]
fn a_panic_is_a_fault_of_the_call() {
    #[hotswap_sdk::function]
    type Fail = fn(text: &str);

    let loader = loader();
    let fail: Fail = loader.function(plugin("functions_1"), "fail").unwrap();
    for text in ["oh dear", "again"] {
        let Err(Fault {
            kind: FaultKind::Panicked(said),
            ..
        }) = fail.call(text)
        else {
            panic!("it returns nothing")
        };
        assert!(said.starts_with(&format!("{text} (")), "{said}");
        assert!(said.contains("functions_1.rs:"), "{said}");
    }
}

#[test]
fn it_outlives_its_loader_and_goes_to_other_threads() {
    fn check<T: Send + Sync + Clone>() {}
    check::<(Loader, Library, Greet)>();

    alone(
        "functions::it_outlives_its_loader_and_goes_to_other_threads",
        || {
            let before = threads();
            let loader = loader();
            let greet: Greet = loader.function(plugin("functions_1"), "greet").unwrap();
            drop(loader);
            let others: Vec<_> = (0..4)
                .map(|_| greet.clone())
                .map(|greet| thread::spawn(move || greeting(&greet)))
                .collect();
            for other in others {
                assert_eq!(other.join().unwrap(), "Hello Rust");
            }
            assert_eq!(images().len(), 1);
            drop(greet);
            while !images().is_empty() || threads() > before {
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
        let library = loader.open(&path).unwrap();
        let greet: Greet = library.function("greet").unwrap();
        (library, greet)
    };
    let (one, two, again) = (
        load("functions_1"),
        load("functions_2"),
        load("functions_1"),
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(greeting(&one.1), "Hello Rust");
    assert_eq!(greeting(&two.1), "Hallo Rust");
    assert_eq!(greeting(&again.1), "Hello Rust");

    // What one image counts, the other does not.
    let calls = |of: &Library| of.function::<Calls>("calls").unwrap().call();
    assert_eq!(calls(&one.0), Ok(0));
    assert_eq!(calls(&one.0), Ok(1));
    assert_eq!(calls(&again.0), Ok(0));

    drop((two, one));
    gone(&loader, 2);
    gone(&loader, 1);
    assert_eq!(greeting(&again.1), "Hello Rust");
    let error = loader.function::<Greet>(&path, "greet").unwrap_err();
    assert_eq!(error.reason(), "open: no such file");
    assert_eq!(greeting(&again.1), "Hello Rust");
}

#[test]
fn other_types_are_refused_with_the_place() {
    #[hotswap_sdk::function]
    type OfNumber = fn(u64) -> String;
    #[hotswap_sdk::function]
    type ToNumber = fn(name: &str) -> u64;
    #[hotswap_sdk::function]
    type OfTwo = fn(name: &str, again: bool) -> String;
    #[hotswap_sdk::function]
    type OfTexts = fn(names: &[String]) -> String;
    #[hotswap_sdk::function]
    type Shift = fn(point: &Point, by: (u32, u32)) -> Point;

    let loader = loader();
    let reason = |file: &str, error: hotswap_core::Error| {
        assert_eq!(error.stage(), Stage::Layout);
        assert_eq!(error.path(), plugin(file));
        error.reason()
    };
    let one = plugin("functions_1");
    let greet = [
        loader.function::<OfNumber>(&one, "greet").unwrap_err(),
        loader.function::<ToNumber>(&one, "greet").unwrap_err(),
        loader.function::<OfTwo>(&one, "greet").unwrap_err(),
        loader.function::<OfTexts>(&one, "greet").unwrap_err(),
    ];
    assert_eq!(
        greet.map(|error| reason("functions_1", error)),
        [
            "layout: greet.name: expected u64, found &str",
            "layout: greet(): expected u64, found String",
            "layout: greet: expected 2 parameters, found 1",
            "layout: greet.names: expected &[String], found &str",
        ]
    );
    let error = loader.function::<Shift>(plugin("functions_2"), "shift");
    assert_eq!(
        reason("functions_2", error.unwrap_err()),
        "layout: shift.point.z: expected no such field, found u32"
    );
    // The files were mapped for that, and have left again.
    assert!(loader.libraries().is_empty(), "{:?}", loader.libraries());
    assert_eq!(loader.refused().len(), 5);
    let lines = lines(&loader);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[0].starts_with("refused /"), "{lines:?}");
    assert!(
        lines[0].ends_with("found &str"),
        "nothing stays live: {lines:?}"
    );
    assert!(loader.function::<Shift>(&one, "shift").is_ok());
}

#[test]
fn a_missing_function_is_refused_with_those_that_there_are() {
    let loader = loader();
    let reason = |file: &str, name: &str| {
        let error = loader.function::<Greet>(plugin(file), name).unwrap_err();
        assert_eq!(error.stage(), Stage::Symbol);
        error.reason()
    };
    let there = "it exports `add`, `calls`, `fail`, `greet`, `join`, `mean`, `shift`, `type`";
    assert_eq!(
        reason("functions_1", "greeet"),
        format!("symbol: no `greeet`; {there}")
    );
    assert_eq!(reason("functions_1", ""), format!("symbol: no ``; {there}"));
    assert_eq!(
        reason("functions_1", "gre\0et"),
        format!(r"symbol: no `gre\u{{0}}et`; {there}")
    );
    // Not even a plain symbol of that name, and nothing of what has none at all is run.
    for (file, name) in [("c_symbols", "twice"), ("constructor_exits_0", "greet")] {
        assert_eq!(
            reason(file, name),
            format!("symbol: no `{name}`; it exports no functions with `#[export]`")
        );
    }
    let library = loader.open(plugin("functions_1")).unwrap();
    let error = library.function::<Greet>("farewell").unwrap_err();
    assert_eq!(error.reason(), format!("symbol: no `farewell`; {there}"));
}

#[test]
fn a_library_says_what_it_exports() {
    let listed = |name: &str| -> Vec<String> {
        let library = loader().open(plugin(name)).unwrap();
        library
            .functions()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(
        listed("functions_1"),
        [
            "add: fn(first: u64, second: u64) -> u64",
            "calls: fn() -> u32",
            "fail: fn(text: &str)",
            "greet: fn(name: &str) -> String",
            "join: fn(first: &str, second: Option<&str>) -> String",
            "mean: fn(numbers: &[f64]) -> Result<f64, String>",
            "shift: fn(point: &Point, (u32, u32)) -> Point",
            "type: fn() -> String",
        ]
    );
    let of_objects = listed("functions_2");
    assert!(
        of_objects.contains(&"listen: fn(listener: Box<dyn Listener>) -> u64".to_owned()),
        "{of_objects:?}"
    );
    assert!(listed("build_1").is_empty());
}

/// A crate may have both: `#[plugin]` makes its image unloadable for both.
#[test]
fn functions_stand_beside_a_plugin() {
    let desk: Hotswap<dyn Desk> = Hotswap::load(plugin("functions_2"), &trust()).unwrap();
    assert_eq!(desk.with(|it| it.build()), 2);
    let loader = loader();
    let greet: Greet = loader.function(plugin("functions_2"), "greet").unwrap();
    assert_eq!(greeting(&greet), "Hallo Rust");
    drop(greet);
    gone(&loader, 1);
    assert!(desk.shutdown(SOON).iter().all(|it| it.state.has_ended()));
}

#[hotswap_sdk::function]
type OpenSession = fn(user: &str) -> Result<Box<dyn Session>, String>;

#[test]
fn an_object_keeps_the_library_of_the_function_that_has_made_it() {
    let loader = loader();
    let open: OpenSession = loader.function(plugin("functions_2"), "open").unwrap();
    let session = open.call("Ada").unwrap().unwrap();
    assert_eq!(
        open.call("").unwrap().err(),
        Some("nobody is called so".to_owned())
    );
    drop(open);
    assert_eq!(loader.wait(1, Duration::ZERO), Some(State::Live));
    let again = session.again();
    drop(session);
    assert_eq!(again.user(), "Ada at 2");
    assert_eq!(loader.wait(1, Duration::ZERO), Some(State::Live));
    drop(again);
    gone(&loader, 1);
}

/// Counts those that there are, and keeps what it is given.
struct Ear(Arc<AtomicU64>, Arc<Mutex<Vec<Box<dyn Session>>>>);

impl Listener for Ear {
    fn hear(&self, text: &str) -> u64 {
        text.len() as u64
    }

    fn take(&self, session: Box<dyn Session>) {
        self.1.lock().unwrap().push(session);
    }

    fn give(&self) -> Option<Box<dyn Session>> {
        None
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn an_object_of_the_host_that_a_library_keeps_does_not_keep_the_library() {
    #[hotswap_sdk::function]
    type Listen = fn(listener: Box<dyn Listener>) -> u64;
    #[hotswap_sdk::function]
    type Count = fn() -> u64;

    let loader = loader();
    let library = loader.open(plugin("functions_2")).unwrap();
    let listen: Listen = library.function("listen").unwrap();
    let count: Count = library.function("open_sessions").unwrap();
    drop(library);
    let (ears, sessions) = (Arc::new(AtomicU64::new(1)), Arc::default());
    let ear = Ear(Arc::clone(&ears), Arc::clone(&sessions));
    assert_eq!(listen.call(Box::new(ear)), Ok(5));
    assert_eq!(ears.load(Ordering::Relaxed), 1, "the library has it");
    assert_eq!(count.call(), Ok(1));
    // What the listener was given is another matter.
    drop((listen, count));
    assert_eq!(loader.wait(1, Duration::ZERO), Some(State::Live));
    let taken = sessions.lock().unwrap().pop().unwrap();
    assert_eq!(taken.user(), "a listener at 2");
    drop(taken);
    gone(&loader, 1);
}

#[test]
fn damaged_exports_are_refused() {
    let loader = loader();
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(plugin("functions_1")).unwrap();
    let mark = b"hotswap function";
    let places: Vec<usize> = (0..bytes.len() - 40)
        .filter(|&place| bytes[place..].starts_with(mark))
        .collect();
    assert_eq!(places.len(), 8, "one for each function");
    // All alike: which is whose does not matter.
    let changed = |name: &str, offset: usize, value: u8| -> PathBuf {
        let mut bytes = bytes.clone();
        for place in &places {
            bytes[place + offset] = value;
        }
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let reason = |path: &Path| {
        loader
            .function::<Greet>(path, "greet")
            .unwrap_err()
            .reason()
    };
    let path = changed("mark", 0, b'?');
    assert_eq!(reason(&path), "symbol: `greet` is not an exported function");
    let listed = loader.open(&path).unwrap().functions();
    assert_eq!(
        listed[3].to_string(),
        "greet: `greet` is not an exported function"
    );
    assert_eq!(
        reason(&changed("version", 16, 9)),
        "symbol: `greet` is an exported function of version 9, expected 1"
    );
}

#[test]
fn plain_c_symbols_are_had_on_ones_word() {
    let loader = loader();
    let library = loader.open(plugin("c_symbols")).unwrap();
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
        // `libm-2.31.so` before glibc 2.34.
        let is_maths = path.contains("/libm.so") || path.contains("/libm-");
        is_maths.then(|| PathBuf::from(path))
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
    let greet = loader
        .function::<Greet>(plugin("functions_1"), "greet")
        .unwrap();
    let (finish, wait) = crossbeam_channel::bounded::<()>(0);
    let (called, is_called) = crossbeam_channel::bounded(1);
    let worker = thread::Builder::new().name("worker".to_owned());
    let its = greet.clone();
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
    let load = |name: &str| loader.function::<Greet>(plugin(name), "greet").unwrap();
    let (send, receive) = crossbeam_channel::bounded::<Greet>(0);
    let (answer, answers) = crossbeam_channel::bounded(0);
    let worker = thread::spawn(move || {
        for greet in receive {
            let text = greeting(&greet);
            drop(greet);
            answer.send(text).unwrap();
        }
    });
    let ask = |greet: &Greet| {
        send.send(greet.clone()).unwrap();
        answers.recv().unwrap()
    };
    let (one, two) = (load("functions_1"), load("functions_2"));
    assert_eq!(ask(&one), "Hello Rust");
    drop(one);
    while loader.wait(1, Duration::from_millis(1)) != Some(State::Unloaded) {
        assert_eq!(ask(&two), "Hallo Rust");
    }
    drop(send);
    worker.join().unwrap();
}

/// It calls no function itself: it uses objects that another thread has got.
#[test]
fn a_thread_leaves_old_libraries_when_it_drops_an_object() {
    let loaders = [loader(), loader()];
    let load = |loader: &Loader| -> OpenSession {
        loader.function(plugin("functions_2"), "open").unwrap()
    };
    let (send, receive) = crossbeam_channel::bounded::<Box<dyn Session>>(0);
    let (answer, answers) = crossbeam_channel::bounded(0);
    let worker = thread::spawn(move || {
        for session in receive {
            let panicked = panic::catch_unwind(AssertUnwindSafe(|| session.panic()));
            drop(session);
            answer.send(panicked.is_err()).unwrap();
        }
    });
    let ask = |open: &OpenSession| {
        send.send(open.call("Ada").unwrap().unwrap()).unwrap();
        assert!(answers.recv().unwrap());
    };
    let [one, two] = loaders.each_ref().map(load);
    ask(&one);
    drop(one);
    while loaders[0].wait(1, Duration::from_millis(1)) != Some(State::Unloaded) {
        ask(&two);
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
            0 => ("functions_1", "Hello Rust"),
            _ => ("functions_2", "Hallo Rust"),
        };
        let library = loader.open(plugin(name)).unwrap();
        let greet: Greet = library.function("greet").unwrap();
        assert_eq!(greeting(&greet), greeting_then);
        library.number()
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
    alone("functions::ten_thousand_cycles_leave_nothing", || {
        let loader = loader();
        let path = plugin("functions_1");
        let cycle = || {
            let library = loader.open(&path).unwrap();
            let greet: Greet = library.function("greet").unwrap();
            assert_eq!(greeting(&greet), "Hello Rust");
            library.number()
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
