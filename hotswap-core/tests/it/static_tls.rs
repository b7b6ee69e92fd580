//! Plugins that need static TLS, of which glibc has little and rarely gets any back.
//!
//! Each test has a process of its own: what it uses up is missing elsewhere.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use hotswap_core::{Error, EventKind, Stage, loader::Loader};
use hotswap_fixtures::static_tls::BYTES;

use crate::{
    alone::{alone, alone_with},
    fixtures::{Plugin, build_of, load, plugin, trust},
};

/// More swaps than the static TLS of any glibc is enough for.
const MANY: usize = 100;

/// Swaps until there is no static TLS left; gives the refusal.
fn use_up(it: &Plugin) -> Error {
    let mut swaps = (0..MANY).map(|_| it.swap(plugin("static_tls")));
    swaps.find_map(Result::err).expect("a refusal")
}

#[test]
fn a_plugin_with_static_tls_says_how_much_it_needs() {
    alone(
        "static_tls::a_plugin_with_static_tls_says_how_much_it_needs",
        || {
            let it = load("build_1");
            it.swap(plugin("static_tls")).unwrap();
            let text = it.with(|it| it.text()(1).into_result().map(String::from).ok());
            assert_eq!(text.as_deref(), Some("build 31 says 1"));
            let [without, with] = &it.generations()[..] else {
                panic!("two generations")
            };
            assert_eq!(without.static_tls_bytes, None);
            let bytes = with.static_tls_bytes.expect("a size");
            assert!(bytes >= BYTES, "{bytes}");
            assert!(
                with.to_string()
                    .ends_with(&format!("({bytes} bytes of static TLS)")),
                "{with}"
            );
            let said: Vec<_> = it.events().try_iter().map(|it| it.to_string()).collect();
            let accepted = said
                .iter()
                .position(|it| it.starts_with("accepted generation 2"));
            let line = format!(
                "static-tls generation 2: it needs {bytes} bytes of static TLS, which glibc rarely gives back: after \
                 a few such plugins the next one is refused; GLIBC_TUNABLES=glibc.rtld.optional_static_tls=BYTES in \
                 the environment of the host sets how much there is"
            );
            assert_eq!(said[accepted.unwrap() + 1], line);
            assert_eq!(
                said.iter()
                    .filter(|it| it.starts_with("static-tls"))
                    .count(),
                1
            );

            let loader = Loader::new(&trust()).unwrap();
            let library = loader.open(plugin("static_tls")).unwrap();
            assert_eq!(loader.libraries()[0].static_tls_bytes, Some(bytes));
            let said: Vec<_> = loader.events().try_iter().map(|it| it.kind).collect();
            assert!(
                matches!(
                    said[..],
                    [EventKind::Accepted { .. }, EventKind::StaticTls { bytes: said, .. }] if said == bytes
                ),
                "{said:?}"
            );
            drop(library);
        },
    );
}

#[test]
fn a_refusal_for_lack_of_static_tls_names_the_tunable() {
    alone(
        "static_tls::a_refusal_for_lack_of_static_tls_names_the_tunable",
        || {
            let it = load("static_tls");
            let error = use_up(&it);
            assert_eq!(error.stage(), Stage::Link);
            let bytes = it.generations()[0].static_tls_bytes.unwrap();
            let expected = format!(
                "link: cannot allocate memory in static TLS block; it needs {bytes} bytes of static TLS, which glibc \
                 rarely gives back; GLIBC_TUNABLES=glibc.rtld.optional_static_tls=BYTES in the environment of the host \
                 sets how much there is"
            );
            assert_eq!(error.reason(), expected);
            assert_eq!(build_of(&it), 31, "the running generation serves on");
            it.swap(plugin("build_2")).unwrap();
            assert_eq!(build_of(&it), 2);
        },
    );
}

#[test]
fn with_the_tunable_there_is_more() {
    alone_with(
        "static_tls::with_the_tunable_there_is_more",
        &[("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=131072")],
        || {
            let it = load("static_tls");
            for _ in 0..MANY {
                it.swap(plugin("static_tls")).unwrap();
            }
        },
    );
}

#[test]
fn a_generation_that_is_still_in_use_is_gone_back_to_without_more_static_tls() {
    alone(
        "static_tls::a_generation_that_is_still_in_use_is_gone_back_to_without_more_static_tls",
        || {
            let it = load("static_tls");
            use_up(&it);
            let before = it.with(|it| it.number());
            let lease = it.lease();
            it.swap(plugin("build_2")).unwrap();
            let back = it.rollback().unwrap();
            assert_eq!((back.generation, back.loaded_again), (before, None));
            drop(lease);
            assert_eq!(build_of(&it), 31);
        },
    );
}
