//! The process that swaps: loads a plugin, calls it from threads that live long and from some that do not, swaps its
//! two builds in turn, and waits for each retired generation to end.

use std::{
    env,
    error::Error,
    future::Future,
    path::Path,
    pin::Pin,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
    thread,
    time::{Duration, Instant},
};

use futures_executor::block_on;
use hotswap_core::{Hotswap, Interface, Policy, State, Trust};
use support::{AsyncPlugin, PluginRef};

use crate::{
    cases::{Case, Expected},
    outcome::Line,
    process,
    server::Server,
};

/// Threads that call for as long as swaps go on.
const CALLERS: usize = 2;
/// Between two calls of one of those.
const PAUSE: Duration = Duration::from_millis(5);
/// More faults than these say nothing new.
const FAULTS_MAX: usize = 3;

/// What a process has, and is to have still after many swaps.
#[derive(Debug, PartialEq)]
struct Belongings {
    descriptors: usize,
    threads: usize,
    images: usize,
    keys: usize,
}

pub(crate) fn run(case: &Case, swaps: u32, a: &Path, b: &Path) -> Result<(), Box<dyn Error>> {
    if ["ureq", "reqwest"].contains(&case.package) {
        let Server { url, certificate } = Server::start()?;
        // SAFETY: the server's thread, the only other one, does not look at the environment.
        unsafe { env::set_var("REAL_PLUGINS_URL", url) };
        // SAFETY: the server's thread, the only other one, does not look at the environment.
        unsafe { env::set_var("REAL_PLUGINS_CERTIFICATE", certificate) };
    }
    let policy = Policy {
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: the files were built by `scripts/real-plugins`.
    let trust = unsafe { Trust::vouch(policy) };
    match case.package {
        "reqwest" => swap_under_calls::<dyn AsyncPlugin>(case, swaps, a, b, &trust),
        _ => swap_under_calls::<PluginRef>(case, swaps, a, b, &trust),
    }
    Ok(())
}

/// What the plugins offer, as a host calls it.
trait Work: Interface {
    /// Has the text worked on.
    fn process(plugin: &Hotswap<Self>, text: &str) -> Result<String, String>;
}

impl Work for PluginRef {
    fn process(plugin: &Hotswap<Self>, text: &str) -> Result<String, String> {
        plugin.with(|it| {
            let answer = it.process()(text.into()).into_result();
            answer.map(String::from).map_err(|fault| fault.to_string())
        })
    }
}

impl Work for dyn AsyncPlugin {
    /// Each call has one beside it that is cancelled when it has begun.
    fn process(plugin: &Hotswap<Self>, text: &str) -> Result<String, String> {
        let call = || plugin.call_async(|it| it.process(text.to_owned()));
        let mut cancelled = call();
        let mut context = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut cancelled).poll(&mut context);
        let answer = block_on(call());
        drop(cancelled);
        answer.map_err(|fault| fault.to_string())?
    }
}

fn swap_under_calls<I: Work + ?Sized>(case: &Case, swaps: u32, a: &Path, b: &Path, trust: &Trust) {
    let plugin: Hotswap<I> = match Hotswap::load(a, trust) {
        Ok(plugin) => plugin,
        Err(error) => {
            Line::Fault(&format!("refused: {error}")).say();
            return;
        }
    };

    Line::Step("swapping").say();
    let (stop, calling) = (AtomicBool::new(false), RwLock::new(()));
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut faults = 0;
                while !stop.load(Ordering::Relaxed) && faults < FAULTS_MAX {
                    let calling = calling.read().unwrap_or_else(PoisonError::into_inner);
                    faults += usize::from(call(&plugin).is_err());
                    drop(calling);
                    thread::sleep(PAUSE);
                }
            });
        }
        swap_in_turn(case, swaps, &plugin, [a, b], &calling);
        stop.store(true, Ordering::Relaxed);
        Line::Step("the callers end").say();
    });
    // What they have left behind runs, or is unmapped.
    thread::sleep(Duration::from_millis(100));

    Line::Step("shutting down").say();
    // So that the last generation has done what all have.
    let _ = call(&plugin);
    let last = plugin.lease().number();
    let left = plugin.shutdown(wait_max(case));
    let last = left.iter().find(|it| it.number == last);
    say_state(last.map_or(&State::Unloaded, |it| &it.state));

    if let Some(signal) = case.signal {
        Line::Step(&format!("{} is delivered", signal.name)).say();
        // SAFETY: no conditions.
        unsafe { libc::kill(libc::getpid(), signal.number) };
    }
    thread::sleep(Duration::from_millis(200));
    Line::Step("exiting").say();
}

/// Ends early when a generation is not as expected again and again. `calling` keeps the callers from calling.
fn swap_in_turn<I: Work + ?Sized>(
    case: &Case,
    swaps: u32,
    plugin: &Hotswap<I>,
    [a, b]: [&Path; 2],
    calling: &RwLock<()>,
) {
    let warm_up = swaps / 6;
    let (mut before, mut faults) = (None, 0);
    for done in 0..swaps {
        let is_a = done % 2 == 0;
        faults += usize::from(!answers_as(plugin, if is_a { "A" } else { "B" }));
        let called = thread::scope(|scope| scope.spawn(|| call(plugin)).join());
        faults += usize::from(!called.is_ok_and(|called| called.is_ok()));
        match plugin.swap(if is_a { b } else { a }) {
            Ok(swapped) => {
                let state = plugin.wait(swapped.retired, wait_max(case));
                let state = state.as_ref().expect("the list has what was retired last");
                say_state(state);
                faults += usize::from(case.expected.is_unloaded() && *state != State::Unloaded);
            }
            Err(error) => {
                Line::Fault(&format!("swap {} refused: {error}", done + 1)).say();
                faults += 1;
            }
        }
        if done == warm_up {
            before = Some(Belongings::settled(plugin, calling));
        }
        if faults >= FAULTS_MAX {
            return;
        }
    }
    if let (Some(before), true) = (before, case.expected.is_unloaded()) {
        compare(case, &before, &Belongings::settled(plugin, calling));
    }
}

fn compare(case: &Case, before: &Belongings, after: &Belongings) {
    // SQLite does not close a descriptor of a file on which the process has locks, and uses it again (`setPendingFd` in
    // its os_unix.c): whether one is waiting for that is chance.
    let spare = usize::from(case.package == "sqlite");
    let as_many = |after: usize, before: usize| after.abs_diff(before) <= spare;
    let rest = |it: &Belongings| (it.threads, it.images, it.keys);
    if !as_many(after.descriptors, before.descriptors) || rest(before) != rest(after) {
        Line::Fault(&format!("left behind: {before:?} became {after:?}")).say();
    }
}

fn answers_as<I: Work + ?Sized>(plugin: &Hotswap<I>, build: &str) -> bool {
    call(plugin).is_ok_and(|answer| {
        let is_right = answer.starts_with(build);
        if !is_right {
            Line::Fault(&format!(
                "the build {build} was expected to answer: {answer}"
            ))
            .say();
        }
        is_right
    })
}

fn call<I: Work + ?Sized>(plugin: &Hotswap<I>) -> Result<String, ()> {
    let answer = I::process(plugin, "some text");
    answer.map_err(|fault| Line::Fault(&format!("a call has failed: {fault}")).say())
}

/// Numbers of threads and times differ from one generation to the next, and mean nothing here.
fn say_state(state: &State) {
    let text = state.to_string();
    if !matches!(state, State::Draining { .. }) {
        Line::State(&text).say();
        return;
    }
    let mut words = String::new();
    for c in text.chars() {
        match c.is_ascii_digit() {
            true if words.ends_with('#') => {}
            true => words.push('#'),
            false => words.push(c),
        }
    }
    Line::State(&words).say();
}

fn wait_max(case: &Case) -> Duration {
    match case.expected {
        Expected::Unloaded | Expected::UnloadedOrPinned(_) => Duration::from_secs(10),
        Expected::Pinned(_) | Expected::Draining(_) => Duration::from_secs(2),
    }
}

impl Belongings {
    /// When nobody calls and nothing has changed for a moment: threads that the plugin has left behind end, and the
    /// file that was published last is hashed.
    fn settled<I: Work + ?Sized>(plugin: &Hotswap<I>, calling: &RwLock<()>) -> Self {
        let _no_calls = calling.write().unwrap_or_else(PoisonError::into_inner);
        // So that the live generation has what it takes at its first call.
        let _ = call(plugin);
        let started = Instant::now();
        loop {
            let before = Self::now();
            thread::sleep(Duration::from_millis(100));
            let now = Self::now();
            if now == before || started.elapsed() > Duration::from_secs(5) {
                return now;
            }
        }
    }

    fn now() -> Self {
        Self {
            descriptors: process::open_descriptors(),
            threads: process::threads(),
            images: process::images().len(),
            keys: process::keys_in_use(),
        }
    }
}
