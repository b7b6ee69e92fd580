//! Events for the subscribers of [`tracing`], with the names that the fields have elsewhere.
//!
//! Target `hotswap`. What goes as it should is `INFO`, what somebody may want to look into is `WARN`.

use tracing::{info, warn};

use super::{Event, News, ServiceNews, words::Holders};
use crate::escape::{Escaped, one_line};

const TARGET: &str = "hotswap";

impl News {
    /// Runs subscribers, which may take their time.
    pub(crate) fn trace(self) {
        self.0.iter().for_each(trace);
    }
}

fn trace(event: &Event) {
    match event {
        Event::Accepted {
            generation,
            path,
            phases,
            ..
        } => {
            let (path, took) = (Escaped(path), phases.total());
            info!(target: TARGET, generation, %path, ?took, "accepted");
        }
        Event::StaticTls { generation, bytes } => {
            warn!(target: TARGET, generation, bytes, "static-tls");
        }
        Event::OldLibrary {
            generation,
            library,
        } => {
            let (mapped, found) = (Escaped(&library.mapped), Escaped(&library.found));
            let name = Escaped(&library.name);
            warn!(target: TARGET, generation, %name, %mapped, %found, "old-library");
        }
        Event::Refused {
            path,
            stage,
            reason,
            live,
        } => {
            let path = Escaped(path);
            warn!(target: TARGET, %path, %stage, reason, live, "refused");
        }
        Event::Standby {
            generation,
            successor,
        } => info!(target: TARGET, generation, successor, "standby"),
        Event::RolledBack {
            generation,
            live,
            loaded_again,
            why,
        } => {
            let why = why.as_deref().map(one_line);
            warn!(target: TARGET, generation, live, loaded_again, why, "rolled-back");
        }
        Event::Held { generation, by } => {
            let by = Holders(by);
            warn!(target: TARGET, generation, %by, "held");
        }
        Event::HookPanicked {
            generation,
            message,
        } => {
            let message = one_line(message);
            warn!(target: TARGET, generation, message, "hook-panicked");
        }
        Event::Unloaded {
            generation,
            after,
            heap,
        } => {
            let heap_bytes = heap.map(|it| it.bytes);
            info!(target: TARGET, generation, ?after, heap_bytes, "unloaded");
        }
        Event::Pinned { generation, reason } => {
            warn!(target: TARGET, generation, %reason, "pinned");
        }
        Event::Retained {
            images,
            bytes,
            images_max,
            bytes_max,
        } => warn!(target: TARGET, images, bytes, images_max, bytes_max, "retained"),
        Event::SerialNotKept { generation, reason } => {
            warn!(target: TARGET, generation, reason, "serial-not-kept");
        }
        Event::Service {
            name,
            generation,
            news,
        } => {
            let name = Escaped(name);
            match news {
                ServiceNews::Started | ServiceNews::Stopped { .. } | ServiceNews::NeverBegan => {
                    info!(target: TARGET, %name, generation, %news, "service");
                }
                ServiceNews::Ended { .. } | ServiceNews::Stuck { .. } => {
                    warn!(target: TARGET, %name, generation, %news, "service");
                }
            }
        }
        Event::Missed { events } => warn!(target: TARGET, events, "missed"),
    }
}
