//! A tag (`#[sabi(tag = …)]`) as text in the host's own memory.
//!
//! abi_stable accepts a tag as compatible with one that contains more. A value is shared in both directions, so here
//! two tags are either equal or different. Only parts that are marked as ignored do not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use abi_stable::type_layout::tagging::{Primitive, Tag, TagVariant};

/// The tag as text; `None` if the type has no tag.
pub(super) fn describe(tag: &Tag) -> Option<String> {
    (!is_null(tag)).then(|| text(*tag))
}

fn text(tag: Tag) -> String {
    match variant(tag) {
        TagVariant::Primitive(Primitive::Null) => "null".to_owned(),
        TagVariant::Primitive(Primitive::Bool(value)) => value.to_string(),
        TagVariant::Primitive(Primitive::Int(value)) => value.to_string(),
        TagVariant::Primitive(Primitive::UInt(value)) => format!("{value}u"),
        TagVariant::Primitive(Primitive::String_(value)) => format!("{:?}", value.as_str()),
        TagVariant::Ignored(_) => "_".to_owned(),
        TagVariant::Array(values) => {
            let values = values.iter().filter(|it| !is_null(it));
            let values: Vec<_> = values.map(|it| text(*it)).collect();
            format!("[{}]", values.join(", "))
        }
        TagVariant::Set(values) => {
            let values = values.iter().filter(|it| !is_null(it));
            let values: BTreeSet<_> = values.map(|it| text(*it)).collect();
            format!("set {{{}}}", Vec::from_iter(values).join(", "))
        }
        TagVariant::Map(entries) => {
            let entries = entries.iter().filter(|it| !is_null(&it.key));
            let entries: BTreeMap<_, _> =
                entries.map(|it| (text(it.key), text(it.value))).collect();
            let entries = entries.iter().map(|(key, value)| format!("{key}: {value}"));
            format!("map {{{}}}", Vec::from_iter(entries).join(", "))
        }
    }
}

fn is_null(tag: &Tag) -> bool {
    *tag == Tag::null()
}

/// The content of a tag, to which abi_stable gives no other access.
fn variant(tag: Tag) -> TagVariant {
    // SAFETY: a `Tag` is `repr(C)` with a `TagVariant` as its only field (abi_stable 0.11.3, which is pinned), and
    // both are `Copy`.
    unsafe { mem::transmute::<Tag, TagVariant>(tag) }
}

#[cfg(test)]
mod tests {
    use abi_stable::{std_types::RSlice, tag, type_layout::tagging::KeyValue};

    use super::*;

    /// The tag is a constant here, as in a description.
    macro_rules! check {
        ($tag:expr, $expected:expr) => {{
            const TAG: Tag = $tag;
            assert_eq!(describe(&TAG).as_deref(), Some($expected));
        }};
    }

    #[test]
    fn what_differs_is_told_apart() {
        assert_eq!(describe(Tag::NULL), None);
        check!(tag!(true), "true");
        check!(tag!(-7), "-7");
        check!(Tag::int(7), "7");
        check!(Tag::uint(7), "7u");
        check!(tag!("a, \"b\"\n"), r#""a, \"b\"\n""#);
        check!(tag!(["b", "a", 1]), r#"["b", "a", 1]"#);
        check!(tag!([tag!(["a"]), "b"]), r#"[["a"], "b"]"#);
        check!(tag!({"b", "a", "b"}), r#"set {"a", "b"}"#);
        check!(
            tag!({"b" => 1, "a" => tag!({ 2 })}),
            r#"map {"a": set {2}, "b": 1}"#
        );
        check!(Tag::set(RSlice::from_slice(&[])), "set {}");
        check!(Tag::map(RSlice::from_slice(&[])), "map {}");
    }

    #[test]
    fn what_does_not_count_is_left_out() {
        const NULL_AND_ONE: &[Tag] = &[Tag::null(), Tag::int(1)];
        const OF_NULL: &[KeyValue<Tag>] = &[Tag::kv(Tag::null(), Tag::int(1))];
        check!(Tag::arr(RSlice::from_slice(NULL_AND_ONE)), "[1]");
        check!(Tag::set(RSlice::from_slice(NULL_AND_ONE)), "set {1}");
        check!(Tag::map(RSlice::from_slice(OF_NULL)), "map {}");
        check!(Tag::ignored(&Tag::str("a comment")), "_");
    }
}
