//! The process ends while a plugin leaves.

use std::{
    io,
    os::fd::IntoRawFd,
    process,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use hotswap_core::{State, event::Holder};

use crate::{
    alone::exits,
    fixtures::{Plugin, load, plugin},
};

#[test]
fn no_image_is_closed_while_libc_calls_what_it_has_registered() {
    let test = "unloading::at_exit::no_image_is_closed_while_libc_calls_what_it_has_registered";
    exits(test, 7, || {
        let it = load("slow_at_exit");
        thread::spawn(|| process::exit(7));
        while !it.with(|it| it.text()(0).unwrap() == "true") {
            thread::yield_now();
        }
        it.swap(plugin("build_1")).unwrap();
        loop {
            thread::park();
        }
    });
}

#[test]
fn the_process_ends_after_a_hook_that_runs() {
    let test = "unloading::at_exit::the_process_ends_after_a_hook_that_runs";
    let said = exits(test, 7, || {
        let it = load("slow_at_exit");
        let (pipe, ends) = io::pipe().unwrap();
        let pipe = pipe.into_raw_fd() as u64;
        it.with(|it| it.text()(pipe).map(drop).unwrap());
        it.swap(plugin("build_1")).unwrap();
        let is_in_hook = || match &it.generations()[0].state {
            State::Draining { held_by } => held_by.contains(&Holder::Hook),
            other => panic!("{other:?}"),
        };
        while !is_in_hook() {
            thread::yield_now();
        }
        thread::spawn(|| {
            // Enough for the end of the process to begin.
            thread::sleep(Duration::from_millis(300));
            drop(ends);
        });
        process::exit(7);
    });
    if let Some(said) = said {
        assert!(said.contains("the hook has ended"), "{said}");
    }
}

/// Nothing leaves any more by then.
#[test]
fn a_handler_of_the_host_that_shuts_down_does_not_wait() {
    static PLUGIN: Mutex<Option<Plugin>> = Mutex::new(None);

    unsafe extern "C" {
        fn atexit(function: extern "C" fn()) -> i32;
    }
    extern "C" fn shut_down() {
        let mut plugin = PLUGIN.lock().unwrap_or_else(PoisonError::into_inner);
        let mapped = plugin.take().unwrap().shutdown(Duration::MAX);
        eprintln!("{} left", mapped.len());
    }
    let test = "unloading::at_exit::a_handler_of_the_host_that_shuts_down_does_not_wait";
    let said = exits(test, 7, || {
        // SAFETY: a function of this program, which may be called at its end.
        assert_eq!(unsafe { atexit(shut_down) }, 0);
        *PLUGIN.lock().unwrap() = Some(load("build_1"));
        process::exit(7);
    });
    if let Some(said) = said {
        assert!(said.contains("1 left"), "{said}");
    }
}
