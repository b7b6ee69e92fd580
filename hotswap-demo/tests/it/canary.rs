//! Candidates that begin as canaries.

use rustix::process::Signal;

use crate::{
    demo::{Demo, plugin},
    dev::{CODE, Workspace},
};

/// A demo whose second plugin is a canary with this share of the ticks.
fn demo_with_canary(share: &str, candidate: &str) -> Demo {
    let mut demo = Demo::with_options(&["--canary", share], "shipped");
    let path = plugin(candidate);
    demo.type_line(&path);
    let expected = format!(
        "canary generation 2 gets {share} of the calls: {}",
        path.display()
    );
    let said = demo.says("canary");
    match share {
        "0%" => assert_eq!(
            said,
            expected + "; it gets none until you type `:share 10%`"
        ),
        _ => assert_eq!(said, expected),
    }
    demo
}

#[test]
fn ticks_are_answered_by_both_sides_until_the_canary_is_promoted() {
    let mut demo = demo_with_canary("50%", "other");
    demo.says("answering generation 2 (candidate)");
    demo.says("answering generation 1 (live)");
    demo.prints_soon("Adding to 20: 27");
    demo.prints_soon("Adding to 10: 17");
    demo.type_line(":promote");
    let accepted = demo.says("accepted");
    let start = format!(
        "accepted generation 2: {}; it had ",
        plugin("other").display()
    );
    assert!(accepted.starts_with(&start), "{accepted}");
    assert!(accepted.contains("; the live side had "), "{accepted}");
    demo.says("unloaded generation 1 after ");
    // The next plugin begins as one, too.
    demo.type_line(plugin("other"));
    let begun = demo.says("canary generation 3 gets 50% of the calls: ");
    assert!(
        begun.ends_with("; the same bytes as generation 2"),
        "{begun}"
    );
    demo.type_line(":share 60%");
    let more = demo.says("canary generation 3 gets 60% of the calls: ");
    assert!(!more.contains("the same bytes"), "{more}");
    demo.says("answering generation 3 (candidate)");
}

#[test]
fn a_canary_that_fails_is_abandoned_with_its_figures() {
    let mut demo = demo_with_canary("100%", "faulty");
    demo.says("fault generation 2: some_fn: panicked: no answer");
    demo.type_line(":figures");
    let figures = loop {
        let line = demo.says_anything();
        if line.starts_with("figures") {
            break [line, demo.says_anything(), demo.says_anything()];
        }
    };
    assert_eq!(figures[0], "figures generation 2: 100% of the calls");
    let candidate = &figures[1];
    let is_candidate = candidate.starts_with("  candidate  ") && candidate.contains(", p99 ");
    let has_faults = candidate.contains(" fault") && !candidate.contains(" 0 faults");
    assert!(is_candidate && has_faults, "{candidate}");
    assert_eq!(figures[2], "  live       0 calls, 0 faults");

    demo.type_line(":abandon");
    let refused = loop {
        let line = demo.says_anything();
        if line.starts_with("abandoned") {
            break line;
        }
    };
    let start = format!(
        "abandoned generation 2 {}: canary: by hand (the candidate had ",
        plugin("faulty").display()
    );
    assert!(refused.starts_with(&start), "{refused}");
    assert!(refused.ends_with("; generation 1 stays live"), "{refused}");
    demo.says("unloaded generation 2 after ");
    demo.prints_soon("Adding to 10: 17");
}

#[test]
fn one_is_decided_on_before_the_next() {
    let mut demo = demo_with_canary("0%", "other");
    let undecided = "generation 2 is a canary: `:promote` or `:abandon` it first";
    demo.type_line(plugin("faulty"));
    assert_eq!(demo.says("generation 2"), undecided);
    demo.type_line(":reload");
    assert_eq!(demo.says("generation 2"), undecided);
    demo.type_line(":rollback");
    assert_eq!(
        demo.says("no rollback"),
        format!("no rollback: no plugin before this one is kept; {undecided}")
    );
    demo.type_line(":share 0%");
    assert_eq!(
        demo.says("generation 2"),
        "generation 2 gets 0% of the calls already"
    );
    demo.type_line(":share 100%");
    demo.says("canary generation 2 gets 100% of the calls: ");
    demo.prints_soon("Adding to 20: 27");
    demo.type_line(":versions");
    let line = format!(
        "generation 2 canary, 100% of the calls: {}",
        plugin("other").display()
    );
    while !demo.says("").ends_with(&line) {}
    demo.type_line(":promote");
    demo.says("accepted generation 2: ");
    for command in [":promote", ":abandon", ":share 50%", ":figures"] {
        demo.type_line(command);
        assert_eq!(demo.says("there is"), "there is no canary");
    }
}

/// It never was one, and its path leads to no plugin.
#[test]
fn a_refused_candidate_is_no_canary() {
    let mut demo = Demo::with_options(&["--canary", "10%"], "shipped");
    demo.type_line("/no/such.so");
    demo.says("refused /no/such.so: open: no such file; generation 1 stays live");
    demo.type_line(":promote");
    assert_eq!(demo.says("there is"), "there is no canary");
}

#[test]
fn without_the_option_there_is_none() {
    let mut demo = Demo::with("shipped");
    demo.type_line(plugin("other"));
    demo.says("accepted generation 2: ");
    demo.type_line(":promote");
    assert_eq!(
        demo.says("there is"),
        "there is no canary; with `--canary 10%` each next plugin begins as one"
    );
}

#[test]
fn the_end_abandons_a_canary() {
    let ends: [fn(&mut Demo); 3] = [
        Demo::end_input,
        |demo| demo.signal(Signal::INT),
        |demo| demo.type_line(":quit"),
    ];
    for end in ends {
        let mut demo = demo_with_canary("50%", "other");
        end(&mut demo);
        let (code, err) = demo.ends();
        assert_eq!(code, Some(0));
        let refused = format!(
            "abandoned generation 2 {}: canary: the demo ends (",
            plugin("other").display()
        );
        for start in [
            &refused,
            "unloaded generation 1 after ",
            "unloaded generation 2 after ",
        ] {
            let is_said = err.iter().any(|line| line.starts_with(start));
            assert!(is_said, "{start}: {err:?}");
        }
        let stays = err.iter().any(|line| line.contains("stays live"));
        assert!(!stays, "{err:?}");
    }
}

#[test]
fn a_newer_build_takes_the_place_of_one_that_is_undecided() {
    let workspace = Workspace::new("canaries");
    let mut demo = workspace.start(&["--canary", "100%"]);
    demo.says("accepted generation 1: ");
    demo.prints_soon("some_data = \"one\"");
    workspace.change(CODE, "\"one\"", "\"two\"");
    demo.says("canary generation 2 gets 100% of the calls: ");
    let built = demo.says("built in ");
    assert!(!built.contains("swapped"), "{built}");
    demo.prints_soon("some_data = \"two\"");

    workspace.change(CODE, "\"two\"", "\"three\"");
    let refused = demo.says("abandoned generation 2 ");
    assert!(
        refused.contains(": canary: a newer build replaces it ("),
        "{refused}"
    );
    demo.says("canary generation 3 gets 100% of the calls: ");
    demo.prints_soon("some_data = \"three\"");
    demo.type_line(":promote");
    demo.says("accepted generation 3: ");
    demo.end_input();
    demo.signal(Signal::INT);
    assert_eq!(demo.ends().0, Some(0));
}
