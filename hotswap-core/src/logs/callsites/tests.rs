use std::ptr;

use super::*;

fn view(line: u32, kind: CallsiteKind) -> CallsiteView<'static> {
    let mut view = CallsiteView::generic("a name", "a target", Level::Info, kind);
    view.line = Some(line);
    view
}

#[test]
fn callsites_with_the_same_description_are_one() {
    let callsites = Callsites::new(100, 100);
    let kinds = [CallsiteKind::Span, CallsiteKind::Hint];
    let all: Vec<_> = [1, 2]
        .into_iter()
        .flat_map(|line| kinds.map(|kind| callsites.intern(&view(line, kind))))
        .collect();
    for (number, callsite) in all.iter().enumerate() {
        for (other, it) in all.iter().enumerate() {
            assert_eq!(ptr::eq(*callsite, *it), number == other);
        }
    }
    assert!(ptr::eq(
        all[0],
        callsites.intern(&view(1, CallsiteKind::Span))
    ));
    assert_eq!(all[0].metadata().line(), Some(1));
    assert_eq!(all[0].own_fields(), 1);
    let names = all[0].metadata().fields().iter().map(|it| it.name());
    let names: Vec<_> = names.collect();
    assert_eq!(names, ["message", "plugin", "generation"]);
}

/// Beyond the bound, each level and kind has one, and those that are known stay.
#[test]
fn beyond_the_bound_callsites_are_generic() {
    let callsites = Callsites::new(3, 1);
    let intern = |line, kind| callsites.intern(&view(line, kind));
    let known = [1, 2, 3].map(|line| intern(line, CallsiteKind::Event));
    assert!(known.iter().all(|it| !it.is_generic()));

    let event = intern(4, CallsiteKind::Event);
    assert!(event.is_generic() && event.metadata().is_event());
    assert_eq!(event.metadata().target(), "hotswap::plugin");
    assert!(ptr::eq(event, intern(5, CallsiteKind::Event)));
    let span = intern(6, CallsiteKind::Span);
    assert!(span.is_generic() && span.metadata().is_span());
    let mut other_level = view(7, CallsiteKind::Event);
    other_level.level = Level::Warn;
    assert!(!ptr::eq(event, callsites.intern(&other_level)));

    // Those of `log` are counted for themselves.
    assert!(!intern(8, CallsiteKind::Record).is_generic());
    assert!(intern(9, CallsiteKind::Record).is_generic());
    for (line, known) in (1..).zip(known) {
        assert!(ptr::eq(known, intern(line, CallsiteKind::Event)));
    }
}

/// It would be kept for good.
#[test]
fn a_callsite_with_much_text_is_generic() {
    let callsites = Callsites::new(100, 100);
    let target = "t".repeat(TEXT_BYTES_MAX);
    let is_generic = |length| {
        let mut callsite = view(1, CallsiteKind::Record);
        callsite.target = &target[..length];
        callsites.intern(&callsite).is_generic()
    };
    let others = "a name".len() + "message".len();
    assert!(!is_generic(TEXT_BYTES_MAX - others));
    assert!(is_generic(TEXT_BYTES_MAX - others + 1));
}
