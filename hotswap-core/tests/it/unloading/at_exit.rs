//! The process ends while a plugin leaves.

use std::{process, thread};

use hotswap_core::{State, event::Holder};

use crate::{
    alone::exits,
    fixtures::{load, plugin},
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
        it.swap(plugin("build_1")).unwrap();
        let is_in_hook = || match &it.generations()[0].state {
            State::Draining { held_by } => held_by.contains(&Holder::Hook),
            other => panic!("{other:?}"),
        };
        while !is_in_hook() {
            thread::yield_now();
        }
        process::exit(7);
    });
    if let Some(said) = said {
        assert!(said.contains("the hook has ended"), "{said}");
    }
}
