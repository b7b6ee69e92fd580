//! What the subscribers of `tracing` are told.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use hotswap_core::Generation;
use tracing::{
    Metadata, Subscriber,
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer,
    fmt::{MakeWriter, format::FmtSpan},
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::fixtures::{Plugin, SOON, load_with, mapped_copies, plugin, refused, unloaded};

/// Everything that was written.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines that end so.
    fn ending(&self, end: &str) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().map(|line| line.trim_start().to_owned());
        lines.filter(|line| line.contains(end)).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// No swap waits for a subscriber, and so not for itself.
#[test]
fn a_subscriber_may_swap_when_it_is_told_of_a_rollback() {
    static POINT: OnceLock<Plugin> = OnceLock::new();
    static IS_ROLLBACK: AtomicBool = AtomicBool::new(false);

    struct Swapping;

    impl<S: Subscriber> Layer<S> for Swapping {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let is_here = thread::current().name() != Some("hotswap-reaper");
            let is_ours = event.metadata().target() == "hotswap";
            if is_here && is_ours && IS_ROLLBACK.swap(false, Ordering::Relaxed) {
                POINT.get().unwrap().swap(plugin("build_1")).unwrap();
            }
        }
    }

    crate::alone::alone(
        "tracing::a_subscriber_may_swap_when_it_is_told_of_a_rollback",
        || {
            tracing_subscriber::registry().with(Swapping).init();
            let it = POINT.get_or_init(|| {
                load_with("build_1", |settings| {
                    settings.probation = Some(Duration::MAX);
                })
            });
            it.swap(plugin("build_2")).unwrap();
            IS_ROLLBACK.store(true, Ordering::Relaxed);
            assert_eq!(it.rollback().unwrap().generation, 1);
            assert_eq!(it.with(Generation::number), 3);
        },
    );
}

/// A swap goes on, and so does the thread that unloads.
#[test]
fn a_subscriber_may_panic() {
    /// At events, or at spans when they begin, are entered, are left or end.
    struct Panicking(Arc<Mutex<&'static str>>);

    impl Panicking {
        fn at(&self, now: &str, metadata: Option<&Metadata<'_>>) {
            let when = *self.0.lock().unwrap();
            assert!(when != now || metadata.is_none_or(|it| it.target() != "hotswap"));
        }
    }

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Panicking {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            self.at("event", Some(event.metadata()));
        }

        fn on_new_span(&self, span: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
            self.at("new span", Some(span.metadata()));
        }

        fn on_enter(&self, id: &Id, context: Context<'_, S>) {
            self.at("enter", context.metadata(id));
        }

        fn on_exit(&self, id: &Id, context: Context<'_, S>) {
            self.at("exit", context.metadata(id));
        }

        fn on_close(&self, id: Id, context: Context<'_, S>) {
            self.at("close", context.metadata(&id));
        }
    }

    crate::alone::alone("tracing::a_subscriber_may_panic", || {
        let when = Arc::new(Mutex::new("never"));
        let panicking = Panicking(Arc::clone(&when));
        tracing_subscriber::registry().with(panicking).init();
        let it = load_with("build_1", |settings| {
            settings.probe = Some(Arc::new(|_, _| Ok(())));
        });
        let moments = ["event", "new span", "enter", "exit", "close"];
        for (generation, now) in (1..).zip(moments) {
            *when.lock().unwrap() = now;
            it.swap(plugin("build_2")).unwrap();
            unloaded(&it, generation);
            drop(it.prepare(plugin("build_1")).unwrap());
        }
        assert!(it.shutdown(SOON).iter().all(|it| it.state.has_ended()));
        while mapped_copies() > 0 {
            std::thread::yield_now();
        }
    });
}

#[test]
fn spans_and_events_have_fields() {
    crate::alone::alone("tracing::spans_and_events_have_fields", || {
        let lines = Lines::default();
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .with_span_events(FmtSpan::CLOSE)
            .with_ansi(false)
            .without_time()
            .with_writer(lines.clone())
            .init();
        let it = load_with("build_1", |settings| {
            settings.limits.retired_images_max = 2;
            settings.limits.retired_bytes_max = 1 << 40;
        });
        it.swap(plugin("build_2")).unwrap();
        unloaded(&it, 1);
        refused(&it, "/no/such.so");

        let path = plugin("build_2");
        let [first, second] = &lines.ending(": accepted")[..] else {
            panic!("two generations were accepted")
        };
        for (line, generation) in [(first, 1), (second, 2)] {
            let start = format!("INFO hotswap: accepted generation={generation} ");
            assert!(line.starts_with(&start), "{line}");
            assert!(line.contains(" build_id="), "{line}");
        }
        let fields = format!(" path={} real_path=", path.display());
        assert!(second.contains(&fields), "{second}");
        assert!(second.contains(" phases="), "{second}");
        let [refused] = &lines.ending(": refused")[..] else {
            panic!("one candidate was refused")
        };
        assert_eq!(
            refused,
            "WARN hotswap: refused path=/no/such.so stage=open kind=not_found reason=open: no such file live=2"
        );
        // The reaper tells of it when it has told those who wait.
        while lines.ending(": unloaded generation=1 ").is_empty() {
            std::thread::yield_now();
        }
        let [retained] = &lines.ending(": retained")[..] else {
            panic!("half was reached once")
        };
        let start = "WARN hotswap: retained images=1 bytes=";
        let end = " images_max=2 bytes_max=1099511627776";
        assert!(
            retained.starts_with(start) && retained.ends_with(end),
            "{retained}"
        );
        let span = format!("INFO prepare{{path={}}}: hotswap: close", path.display());
        assert!(
            lines.ending(&span).len() == 1,
            "{:?}",
            lines.ending("prepare")
        );
        let step = format!("prepare{{path={}}}:link: hotswap: close", path.display());
        assert!(lines.ending(&step).len() == 1, "{:?}", lines.ending("link"));
    });
}
