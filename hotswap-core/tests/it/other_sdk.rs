//! Plugins that were built with another version of `hotswap-sdk`: each is loaded, or refused by name.

use hotswap_core::{Error, Hotswap};
use hotswap_fixtures::other_sdk::{Question, later};

use crate::fixtures::{SOON, plugin, trust};

fn load(name: &str) -> Result<Hotswap<dyn Question>, Error> {
    Hotswap::load(plugin(name), &trust())
}

#[test]
fn a_later_sdk_may_have_more_at_its_end() {
    let question = load("sdk_later").unwrap();
    assert_eq!(question.call(|it| it.answer()), Ok(42));
    assert!(question.shutdown(SOON).is_empty());
}

/// The root module of a plugin of today, as a host of a later sdk looks at it.
#[test]
fn an_earlier_sdk_may_have_less_at_its_end() {
    let has_level = |name: &str| {
        let it: Hotswap<later::PluginRootRef> = Hotswap::load(plugin(name), &trust()).unwrap();
        it.with(|root| root.level().is_some())
    };
    assert!(!has_level("rules_1"));
    assert!(has_level("sdk_later"));
}

#[test]
fn any_other_difference_is_a_refusal() {
    for (name, expected) in [
        (
            "sdk_next",
            "version: the interface hotswap-sdk: expected 0.1.x, found 0.2.0",
        ),
        (
            "sdk_shorter",
            "layout: `PluginRoot` lacks the field `create`: expected `describe`, `create`, found `describe`",
        ),
        (
            "sdk_other_entry",
            "layout: field `create`: expected unsafe fn(this,arguments,out,reply: *const () , param_1: *const () , \
             param_2: *mut () , param_3: *const ReplyVtable) -> u32, found unsafe fn(this,arguments,out: *const () , \
             param_1: *const () , param_2: *mut ()) -> u32",
        ),
        (
            "sdk_other_description",
            "layout: the format of its description: expected 1, found 2",
        ),
    ] {
        let refused = load(name).map(drop).unwrap_err();
        assert_eq!(refused.reason(), expected, "{name}");
    }
}
