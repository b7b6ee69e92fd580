//! The ways in which a demo ends.

use rustix::process::Signal;

use crate::demo::{Demo, plugin};

#[test]
fn the_end_of_input_comes_after_the_lines_before_it() {
    let mut demo = Demo::with("shipped");
    demo.type_line(plugin("other"));
    demo.end_input();
    demo.says("accepted generation 2");
    let (code, err) = demo.ends();
    assert_eq!(code, Some(0));
    for generation in 1..=2 {
        let unloaded = format!("unloaded generation {generation} after ");
        let is_said = err.iter().any(|line| line.starts_with(&unloaded));
        assert!(is_said, "{unloaded:?}: {err:?}");
    }
}

#[test]
fn quit_ends_like_the_end_of_input() {
    let mut demo = Demo::with("shipped");
    demo.type_line(":quit");
    let (code, err) = demo.ends();
    assert_eq!(code, Some(0));
    assert!(
        err.last()
            .unwrap()
            .starts_with("unloaded generation 1 after "),
        "{err:?}"
    );
}

#[test]
fn ctrl_c_and_sigterm_finish_the_tick_and_end_it_cleanly() {
    for signal in [Signal::INT, Signal::TERM] {
        let demo = Demo::with_options(&["--period", "1h"], "slow");
        demo.signal(signal);
        assert_eq!(demo.prints(), r#"some_data = "slow""#);
        assert_eq!(demo.prints(), "Slowly: 7");
        let (code, err) = demo.ends();
        assert_eq!(code, Some(0), "{signal:?}");
        assert!(
            err.last()
                .unwrap()
                .starts_with("unloaded generation 1 after "),
            "{err:?}"
        );
    }
}

#[test]
fn the_second_signal_ends_it_at_once() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        // The first tick comes before any signal is answered. From then on, the demo waits for a thread of the plugin's
        // for an hour, or for a call without end.
        for name in ["stubborn", "endless"] {
            let mut demo = Demo::with_options(&["--drain-deadline", "1h"], name);
            demo.signal_until_it_ends(signal);
            assert_eq!(demo.ends().0, Some(code), "{name}");
        }
    }
}

#[test]
fn without_stdin_its_end_means_nothing() {
    let mut demo = Demo::with_options(&["--no-stdin"], "shipped");
    demo.end_input();
    demo.prints_soon("Adding to 10: 17");
    demo.prints_soon("Adding to 10: 17");
    demo.signal(Signal::TERM);
    let (code, err) = demo.ends();
    assert_eq!(code, Some(0));
    assert!(
        !err.iter().any(|line| line.starts_with("Next plugin")),
        "nothing is asked: {err:?}"
    );
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    let mut demo = Demo::with("shipped");
    demo.stop_reading();
    assert_eq!(demo.ends().0, Some(0));
}

#[test]
fn what_does_not_end_is_reported_after_the_deadline_and_the_demo_ends_all_the_same() {
    let mut demo = Demo::with_options(&["--drain-deadline", "200ms"], "stubborn");
    demo.prints_soon("Stubbornly: 7");
    demo.type_line(plugin("shipped"));
    demo.says("accepted generation 2");
    let held = demo.says("held generation 1: ");
    assert!(held.contains(" (stubborn) of its own, for "), "{held}");
    demo.type_line(":quit");
    let (code, err) = demo.ends();
    assert_eq!(code, Some(0));
    assert!(
        err.iter()
            .any(|line| line.starts_with("unloaded generation 2 after ")),
        "{err:?}"
    );
    assert!(
        err.last()
            .unwrap()
            .starts_with("held generation 1: thread "),
        "{err:?}"
    );
}
