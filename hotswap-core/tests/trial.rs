//! Trials and checks of an interface that is a trait. They need a `main` of their own.

#[path = "it/fixtures.rs"]
#[expect(dead_code, reason = "for the other tests")]
mod fixtures;

use hotswap_core::{Hotswap, Settings, Stage, Trial, check::check};
use hotswap_fixtures::rules::Rules;

use fixtures::{SOON, plugin, trust};

fn main() {
    let trial: Trial<dyn Rules> = Trial::at_top_of_main(probe);
    a_candidate_is_tried_in_a_child(trial);
    a_file_is_checked(trial);
}

fn probe(candidate: &dyn Rules) -> Result<(), String> {
    match candidate.mean(&[1.0]) {
        Some(_) => Ok(()),
        None => Err(format!("build {} knows no mean", candidate.build())),
    }
}

fn a_candidate_is_tried_in_a_child(trial: Trial<dyn Rules>) {
    let settings = Settings {
        trial: Some(trial),
        ..Settings::default()
    };
    let rules = Hotswap::load_with(plugin("rules_1"), &trust(), settings).expect("a good plugin");
    let refused = |name| {
        let error = rules.swap(plugin(name)).expect_err("a bad candidate");
        (error.stage(), error.reason())
    };
    let reason = "probe: build 2 knows no mean".to_owned();
    assert_eq!(refused("rules_2"), (Stage::Probe, reason));
    let reason = "root module: its constructor failed: no licence".to_owned();
    assert_eq!(refused("rules_fails"), (Stage::Root, reason));
    assert_eq!(refused("desk_1").0, Stage::Layout);
    assert_eq!(rules.call(|it| it.build()), Ok(1));
    assert!(rules.shutdown(SOON).iter().all(|it| it.state.has_ended()));
}

fn a_file_is_checked(trial: Trial<dyn Rules>) {
    let report = check(plugin("rules_1"), &trust(), trial).expect("a good plugin");
    assert_eq!(report.interface, "hotswap-fixtures::Rules 0.1.0");
    assert_eq!(report.name.as_deref(), Some("hotswap-fixtures"));
    assert_eq!((report.unloadable_problem, report.stays), (None, None));
    let error = check(plugin("shop_1"), &trust(), trial).expect_err("another interface");
    let reason =
        "layout: another interface: expected hotswap-fixtures::Rules, found hotswap-fixtures::Shop";
    assert_eq!(error.reason(), reason);
}
