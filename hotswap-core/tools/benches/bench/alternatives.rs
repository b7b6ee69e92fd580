//! The ways to call a function of a replaceable plugin, and the loop that times them.
//!
//! Each way does the same: it reaches the current module, under a guard that keeps the module from being unmapped,
//! takes a bare `extern "C"` function from it, and calls the function. The first two have no guard; under them
//! nothing could ever be unmapped. The ways that know files but no modules call an exported function of another
//! plugin, which does as little.

use std::{
    fs,
    hint::black_box,
    process,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicPtr, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use crossbeam_epoch::Atomic;
use hot_lib_reloader::LibReloader;
use hotswap_core::{AssertHostOwned, Hotswap, Lease};
use hotswap_fixtures::FixtureRef;
use libloading::os::unix::{Library, Symbol};
use tempfile::TempDir;

use crate::{Result, by_hand, place};

/// The way that all others are compared with.
pub(crate) const FUNCTION_POINTER: &str = "function pointer";
/// The way that the library is for.
pub(crate) const WITH: &str = "with";
pub(crate) const NESTED: &str = "with in a with";

type Function = extern "C" fn() -> u64;

/// The result of `build_1`, and of the exported function.
const BUILD: u64 = 1;
const SOMETHING_ELSE: u64 = 8;
const EXPORT: &[u8] = b"something_else\0";

/// One way to call.
pub(crate) struct Alternative<'a> {
    pub(crate) name: &'static str,
    batch: Box<dyn Fn(u64) -> Duration + Sync + 'a>,
}

impl Alternative<'_> {
    /// How long `calls` calls take on this thread.
    pub(crate) fn time(&self, calls: u64) -> Duration {
        (self.batch)(calls)
    }
}

/// All loaded plugins. They all have the same module.
pub(crate) struct Subjects {
    plugin: Hotswap<FixtureRef>,
    lease: Lease<FixtureRef>,
    function: Function,
    pointer: AtomicPtr<FixtureRef>,
    arc_swap: ArcSwap<FixtureRef>,
    lock: RwLock<Arc<FixtureRef>>,
    epoch: Atomic<FixtureRef>,
    symbol: Symbol<Function>,
    library: Library,
    reloader: Arc<RwLock<LibReloader>>,
    /// The folder with the reloader's files.
    _folder: TempDir,
}

impl Subjects {
    pub(crate) fn load() -> Result<Self> {
        let plugin: Hotswap<FixtureRef> = place::load(&place::fixture("build_1")?)?;
        let lease = plugin.lease();
        // SAFETY: the lease, which is stored in the same struct, keeps the module mapped.
        let module = lease.with(|it| unsafe { AssertHostOwned::new(**it) });
        let module = module.into_inner();

        let exporting = place::fixture("missing_export")?;
        let library = by_hand::open(&exporting)?;
        let folder = tempfile::tempdir()?;
        fs::copy(&exporting, folder.path().join("libexporting.so"))?;
        let reloader = LibReloader::new(folder.path(), "exporting", None, None)?;
        Ok(Self {
            plugin,
            lease,
            function: module.build_a(),
            pointer: AtomicPtr::new(Box::leak(Box::new(module))),
            arc_swap: ArcSwap::from_pointee(module),
            lock: RwLock::new(Arc::new(module)),
            epoch: Atomic::new(module),
            symbol: by_hand::symbol(&library, EXPORT)?,
            library,
            reloader: Arc::new(RwLock::new(reloader)),
            _folder: folder,
        })
    }

    /// All ways; the function pointer is the first.
    pub(crate) fn alternatives(&self) -> Vec<Alternative<'_>> {
        let plugin = &self.plugin;
        let function = black_box(self.function);
        vec![
            way(FUNCTION_POINTER, BUILD, move || function()),
            way("AtomicPtr", BUILD, || {
                let module = self.pointer.load(Ordering::Acquire);
                // SAFETY: the pointer is from `Box::leak`, and is never replaced.
                unsafe { &*module }.build_a()()
            }),
            way(WITH, BUILD, || plugin.with(|it| it.build_a()())),
            way(NESTED, BUILD, || {
                plugin.with(|_| plugin.with(|it| it.build_a()()))
            }),
            way("lease held", BUILD, || self.lease.with(|it| it.build_a()())),
            way("lease taken", BUILD, || {
                plugin.lease().with(|it| it.build_a()())
            }),
            way("arc-swap load", BUILD, || self.arc_swap.load().build_a()()),
            way("crossbeam-epoch pin", BUILD, || {
                let guard = crossbeam_epoch::pin();
                let module = self.epoch.load(Ordering::Acquire, &guard);
                // SAFETY: the pointer was stored when the `Atomic` was created, and is never replaced.
                unsafe { module.deref() }.build_a()()
            }),
            way("RwLock<Arc> locked", BUILD, || read(&self.lock).build_a()()),
            way("RwLock<Arc> cloned", BUILD, || {
                let module = Arc::clone(&read(&self.lock));
                module.build_a()()
            }),
            way("libloading Symbol", SOMETHING_ELSE, || (self.symbol)()),
            way("dlsym each call", SOMETHING_ELSE, || {
                let symbol: Symbol<Function> =
                    by_hand::symbol(&self.library, EXPORT).expect("an export");
                symbol()
            }),
            // The code that the reloader's macro puts around a call (0.8.2). The macro itself needs a `static mut`.
            way("hot-lib-reloader", SOMETHING_ELSE, || {
                let reloader = Arc::clone(&self.reloader);
                let reloader = read(&reloader);
                // SAFETY: the plugin exports this function with this type.
                let symbol = unsafe { reloader.get_symbol::<Function>(EXPORT) };
                symbol.expect("an export")()
            }),
        ]
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn way<'a>(name: &'static str, answer: u64, call: impl Fn() -> u64 + Sync + 'a) -> Alternative<'a> {
    let batch = Box::new(move |calls| time(calls, answer, &call));
    Alternative { name, batch }
}

/// The timing loop. It is compiled once for each way.
#[inline(never)]
fn time(calls: u64, answer: u64, call: &impl Fn() -> u64) -> Duration {
    let started = Instant::now();
    let mut sum = 0;
    for _ in 0..calls {
        sum += call();
    }
    let took = started.elapsed();
    if sum != calls * answer {
        end(calls, sum);
    }
    took
}

/// Ends the process, because the measurement would be worthless and other threads wait for this one. It is a function
/// of its own: printing needs its values in memory, and inside the loop that would cost in every round.
#[cold]
fn end(calls: u64, sum: u64) -> ! {
    eprintln!("wrong answers: {calls} calls, the sum is {sum}");
    process::exit(1);
}
