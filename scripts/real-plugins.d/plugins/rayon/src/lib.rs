//! Work for many threads: those of a pool that is stopped before the plugin is unloaded, or those of rayon's global
//! pool, which nothing stops.

use rayon::prelude::*;

#[cfg(all(feature = "unloadable", feature = "own-pool"))]
hotswap_unload::unloadable!(before_unload = pool::stop);
#[cfg(all(feature = "unloadable", not(feature = "own-pool")))]
hotswap_unload::unloadable!();
support::plugin!(work);

fn work(text: &str) -> Result<String, String> {
    let sum = || {
        (0..10_000u64)
            .into_par_iter()
            .map(|number| number % 7)
            .sum::<u64>()
    };
    #[cfg(feature = "own-pool")]
    let sum = pool::get()?.install(sum);
    #[cfg(not(feature = "own-pool"))]
    let sum = sum();
    Ok(format!("{sum} {text}"))
}

#[cfg(feature = "own-pool")]
mod pool {
    use std::{
        sync::{
            Arc, Mutex, MutexGuard, PoisonError,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use rayon::{ThreadPool, ThreadPoolBuilder};

    const THREADS: usize = 2;

    static POOL: Mutex<Option<Arc<ThreadPool>>> = Mutex::new(None);
    static ENDED: AtomicUsize = AtomicUsize::new(0);

    pub(super) fn get() -> Result<Arc<ThreadPool>, String> {
        let mut pool = pool();
        if pool.is_none() {
            let builder = ThreadPoolBuilder::new()
                .num_threads(THREADS)
                .exit_handler(|_| {
                    // Relaxed: only the number is of interest.
                    ENDED.fetch_add(1, Ordering::Relaxed);
                });
            *pool = Some(Arc::new(
                builder.build().map_err(|error| error.to_string())?,
            ));
        }
        Ok(Arc::clone(pool.as_ref().expect("made above")))
    }

    /// Dropping a pool asks its threads to end, and does not wait for them.
    pub(super) fn stop() {
        if pool().take().is_some() {
            while ENDED.load(Ordering::Relaxed) < THREADS {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn pool() -> MutexGuard<'static, Option<Arc<ThreadPool>>> {
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
