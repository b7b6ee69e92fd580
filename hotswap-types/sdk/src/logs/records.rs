//! The logger of a plugin: passes the records of `log` on to the host.

use log::{LevelFilter, Log, Metadata, Record};

use super::{
    connection::{self, Callsite, Connection},
    table::{CallsiteKind, Interest, Level, RawParent},
    values::Values,
};

/// Passes everything on to the host, once there is one.
struct Logger;

/// Makes it the logger of this plugin, unless that has another by now.
pub(super) fn install() {
    drop(log::set_logger(&Logger));
}

/// Asks the host again what it is interested in.
pub(super) fn refresh(connection: Connection) {
    let level = LevelFilter::iter().nth(connection.max_level().into());
    log::set_max_level(level.unwrap_or(LevelFilter::Trace));
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let callsite = callsite(metadata);
        connection::get().is_some_and(|connection| {
            let site = connection.callsite(&callsite, FIELDS.into_iter());
            site.is_some_and(|site| connection.enabled(site))
        })
    }

    fn log(&self, record: &Record<'_>) {
        let Some(connection) = connection::get() else {
            return;
        };
        let callsite = Callsite {
            module_path: record.module_path(),
            file: record.file(),
            line: record.line(),
            ..callsite(record.metadata())
        };
        let Some(site) = connection.callsite(&callsite, FIELDS.into_iter()) else {
            return;
        };
        let is_enabled = match connection.interest(site) {
            Interest::Never => false,
            Interest::Sometimes => connection.enabled(site),
            Interest::Always => true,
        };
        if !is_enabled {
            return;
        }
        let (args, target) = (record.args(), record.target());
        let mut values = match (record.file(), record.line()) {
            _ if !site.is_generic => Values::text(*args),
            (Some(file), Some(line)) => {
                Values::text(format_args!("{target}: {args} ({file}:{line})"))
            }
            _ => Values::text(format_args!("{target}: {args}")),
        };
        let parent = RawParent {
            kind: RawParent::CURRENT,
            span: 0,
        };
        connection.event(site, parent, &mut values);
    }

    fn flush(&self) {}
}

/// The field of a record. Its key-values are left out.
const FIELDS: [&str; 1] = ["message"];

/// The callsite of records of this level and target, without their place.
fn callsite<'a>(metadata: &Metadata<'a>) -> Callsite<'a> {
    Callsite {
        name: "log record",
        target: metadata.target(),
        module_path: None,
        file: None,
        line: None,
        level: level(metadata.level()),
        kind: CallsiteKind::Record,
    }
}

fn level(level: log::Level) -> Level {
    match level {
        log::Level::Error => Level::Error,
        log::Level::Warn => Level::Warn,
        log::Level::Info => Level::Info,
        log::Level::Debug => Level::Debug,
        log::Level::Trace => Level::Trace,
    }
}
