//! The form that all this has for programs (feature `serde`), for example as JSON.
//!
//! Names are those of the types' fields. Paths are text, escaped where they are none, as in the events' lines. In all
//! other text what a terminal does not show is escaped, except line ends.
//! Durations are whole microseconds, in fields that end in `_us`; points in time are milliseconds since
//! 1970-01-01 UTC, in fields that end in `_ms`. Nothing is read back: these are reports.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};

use super::{
    services::{ServiceEnd, ServiceInfo, ServiceNews, ServiceState},
    words::{Event, GenerationInfo, Holder, Phases, RefusedInfo, State},
};
use crate::{
    digest::Sha256,
    error::Stage,
    escape::{self, Escaped, printable},
    image::{HeapLeft, OldLibrary, PinReason},
};

/// Serialises a type as another one that is made of it.
macro_rules! serialize_as {
    ($type:ty, $value:ident => $form:expr) => {
        /// See the feature `serde`.
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $value = self;
                $form.serialize(serializer)
            }
        }
    };
}

serialize_as!(Sha256, it => it.to_string());
serialize_as!(Stage, it => it.to_string());
serialize_as!(PinReason, it => it.to_string());

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum EventForm<'a> {
    Accepted {
        generation: u64,
        path: String,
        real_path: String,
        phases: &'a Phases,
    },
    StaticTls {
        generation: u64,
        bytes: u64,
    },
    OldLibrary {
        generation: u64,
        #[serde(flatten)]
        library: &'a OldLibrary,
    },
    Refused {
        path: String,
        stage: &'a Stage,
        reason: &'a str,
        live: Option<u64>,
    },
    Standby {
        generation: u64,
        successor: u64,
    },
    RolledBack {
        generation: u64,
        live: u64,
        loaded_again: Option<u64>,
        why: Option<String>,
    },
    Held {
        generation: u64,
        by: &'a [Holder],
    },
    HookPanicked {
        generation: u64,
        #[serde(serialize_with = "escape::serialize")]
        message: &'a str,
    },
    Unloaded {
        generation: u64,
        after_us: u64,
        heap: Option<HeapForm>,
    },
    Pinned {
        generation: u64,
        reason: &'a PinReason,
    },
    Retained {
        images: usize,
        bytes: u64,
        images_max: usize,
        bytes_max: u64,
    },
    SerialNotKept {
        generation: u64,
        reason: &'a str,
    },
    Service {
        #[serde(serialize_with = "escape::serialize")]
        name: &'a str,
        generation: u64,
        #[serde(flatten)]
        news: &'a ServiceNews,
    },
    Missed {
        events: u64,
    },
}

serialize_as!(Event, it => match it {
    Event::Accepted { generation, path, real_path, followed_link: _, phases } => EventForm::Accepted {
        generation: *generation,
        path: text(path),
        real_path: text(real_path),
        phases,
    },
    Event::StaticTls { generation, bytes } => EventForm::StaticTls {
        generation: *generation,
        bytes: *bytes,
    },
    Event::OldLibrary { generation, library } => EventForm::OldLibrary {
        generation: *generation,
        library,
    },
    Event::Refused { path, stage, reason, live } => EventForm::Refused {
        path: text(path),
        stage,
        reason,
        live: *live,
    },
    Event::Standby { generation, successor } => EventForm::Standby {
        generation: *generation,
        successor: *successor,
    },
    Event::RolledBack { generation, live, loaded_again, why } => EventForm::RolledBack {
        generation: *generation,
        live: *live,
        loaded_again: *loaded_again,
        why: why.as_deref().map(printable),
    },
    Event::Held { generation, by } => EventForm::Held { generation: *generation, by },
    Event::HookPanicked { generation, message } => EventForm::HookPanicked {
        generation: *generation,
        message,
    },
    Event::Unloaded { generation, after, heap } => EventForm::Unloaded {
        generation: *generation,
        after_us: microseconds(*after),
        heap: heap.map(|HeapLeft { bytes, allocations }| HeapForm { bytes, allocations }),
    },
    Event::Pinned { generation, reason } => EventForm::Pinned { generation: *generation, reason },
    Event::Retained { images, bytes, images_max, bytes_max } => EventForm::Retained {
        images: *images,
        bytes: *bytes,
        images_max: *images_max,
        bytes_max: *bytes_max,
    },
    Event::SerialNotKept { generation, reason } => EventForm::SerialNotKept {
        generation: *generation,
        reason,
    },
    Event::Service { name, generation, news } => EventForm::Service {
        name,
        generation: *generation,
        news,
    },
    Event::Missed { events } => EventForm::Missed { events: *events },
});

#[derive(Serialize)]
struct HeapForm {
    bytes: usize,
    allocations: usize,
}

#[derive(Serialize)]
struct OldLibraryForm<'a> {
    #[serde(serialize_with = "escape::serialize")]
    name: &'a str,
    mapped: String,
    found: String,
}

serialize_as!(OldLibrary, it => OldLibraryForm {
    name: &it.name,
    mapped: text(&it.mapped),
    found: text(&it.found),
});

#[derive(Serialize)]
struct PhasesForm {
    copy_us: u64,
    inspect_us: u64,
    trial_us: u64,
    link_us: u64,
    check_us: u64,
    probe_us: u64,
    update_us: u64,
    publish_us: u64,
}

serialize_as!(Phases, it => PhasesForm {
    copy_us: microseconds(it.copy),
    inspect_us: microseconds(it.inspect),
    trial_us: microseconds(it.trial),
    link_us: microseconds(it.link),
    check_us: microseconds(it.check),
    probe_us: microseconds(it.probe),
    update_us: microseconds(it.update),
    publish_us: microseconds(it.publish),
});

#[derive(Serialize)]
struct GenerationForm<'a> {
    number: u64,
    #[serde(flatten)]
    state: &'a State,
    path: String,
    real_path: String,
    file_bytes: u64,
    build_id: Option<&'a str>,
    sha256: Option<Sha256>,
    name: Option<String>,
    version: Option<String>,
    published_ms: u64,
    loaded_again: Option<u64>,
    kit_problem: Option<String>,
    static_tls_bytes: Option<u64>,
    serial: Option<u64>,
    expires_ms: Option<u64>,
    old_libraries: &'a [OldLibrary],
}

serialize_as!(GenerationInfo, it => GenerationForm {
    number: it.number,
    state: &it.state,
    path: text(&it.path),
    real_path: text(&it.real_path),
    file_bytes: it.file_bytes,
    build_id: it.build_id.as_deref(),
    sha256: it.sha256,
    name: it.name.as_deref().map(printable),
    version: it.version.as_deref().map(printable),
    published_ms: milliseconds(it.published),
    loaded_again: it.loaded_again,
    kit_problem: it.kit_problem.as_deref().map(printable),
    static_tls_bytes: it.static_tls_bytes,
    serial: it.serial,
    expires_ms: it.expires.map(milliseconds),
    old_libraries: &it.old_libraries,
});

#[derive(Serialize)]
struct RefusedForm<'a> {
    path: String,
    stage: &'a Stage,
    reason: &'a str,
    refused_ms: u64,
    live: Option<u64>,
}

serialize_as!(RefusedInfo, it => RefusedForm {
    path: text(&it.path),
    stage: &it.stage,
    reason: &it.reason,
    refused_ms: milliseconds(it.refused),
    live: it.live,
});

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum StateForm<'a> {
    Live,
    Standby,
    Draining { held_by: &'a [Holder] },
    Unloaded,
    Pinned { reason: &'a PinReason },
}

serialize_as!(State, it => match it {
    State::Live => StateForm::Live,
    State::Standby => StateForm::Standby,
    State::Draining { held_by } => StateForm::Draining { held_by },
    State::Unloaded => StateForm::Unloaded,
    State::Pinned(reason) => StateForm::Pinned { reason },
});

#[derive(Serialize)]
#[serde(tag = "holder", rename_all = "kebab-case")]
enum HolderForm<'a> {
    Call {
        thread: u32,
        #[serde(serialize_with = "escape::serialize")]
        name: &'a str,
    },
    Leases {
        count: usize,
    },
    Lease {
        place: String,
        age_us: u64,
    },
    Thread {
        thread: Option<u32>,
        #[serde(serialize_with = "escape::serialize")]
        name: &'a str,
        age_us: u64,
    },
    Destructors {
        thread: u32,
        #[serde(serialize_with = "escape::serialize")]
        name: &'a str,
        count: usize,
    },
    Service {
        #[serde(serialize_with = "escape::serialize")]
        name: &'a str,
    },
    Ref {
        #[serde(serialize_with = "escape::serialize")]
        name: &'a str,
    },
    DeletedKey {
        thread: u32,
        #[serde(serialize_with = "escape::serialize")]
        name: &'a str,
    },
    Hook,
    Uncounted,
    More {
        count: usize,
    },
}

serialize_as!(Holder, it => match it {
    Holder::Call { thread, name } => HolderForm::Call { thread: *thread, name },
    Holder::Leases(count) => HolderForm::Leases { count: *count },
    Holder::Lease { place, age } => HolderForm::Lease {
        place: place.to_string(),
        age_us: microseconds(*age),
    },
    Holder::Thread { thread, name, age } => HolderForm::Thread {
        thread: *thread,
        name,
        age_us: microseconds(*age),
    },
    Holder::Destructors { thread, name, count } => HolderForm::Destructors {
        thread: *thread,
        name,
        count: *count,
    },
    Holder::Service { name } => HolderForm::Service { name },
    Holder::Ref { name } => HolderForm::Ref { name },
    Holder::DeletedKey { thread, name } => HolderForm::DeletedKey { thread: *thread, name },
    Holder::Hook => HolderForm::Hook,
    Holder::Uncounted => HolderForm::Uncounted,
    Holder::More(count) => HolderForm::More { count: *count },
});

#[derive(Serialize)]
#[serde(tag = "news", rename_all = "kebab-case")]
enum ServiceNewsForm<'a> {
    Started,
    Ended {
        #[serde(flatten)]
        how: &'a ServiceEnd,
        again_in_us: Option<u64>,
    },
    Stopped {
        after_us: u64,
    },
    Stuck {
        after_us: u64,
    },
    NeverBegan,
}

serialize_as!(ServiceNews, it => match it {
    ServiceNews::Started => ServiceNewsForm::Started,
    ServiceNews::Ended { how, again_in } => ServiceNewsForm::Ended {
        how,
        again_in_us: again_in.map(microseconds),
    },
    ServiceNews::Stopped { after } => ServiceNewsForm::Stopped { after_us: microseconds(*after) },
    ServiceNews::Stuck { after } => ServiceNewsForm::Stuck { after_us: microseconds(*after) },
    ServiceNews::NeverBegan => ServiceNewsForm::NeverBegan,
});

#[derive(Serialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
enum ServiceEndForm<'a> {
    Returned,
    Failed {
        #[serde(serialize_with = "escape::serialize")]
        message: &'a str,
    },
    Panicked {
        #[serde(serialize_with = "escape::serialize")]
        message: &'a str,
    },
}

serialize_as!(ServiceEnd, it => match it {
    ServiceEnd::Returned => ServiceEndForm::Returned,
    ServiceEnd::Failed(message) => ServiceEndForm::Failed { message },
    ServiceEnd::Panicked(message) => ServiceEndForm::Panicked { message },
});

#[derive(Serialize)]
struct ServiceInfoForm<'a> {
    #[serde(serialize_with = "escape::serialize")]
    name: &'a str,
    generation: u64,
    #[serde(flatten)]
    state: &'a ServiceState,
    since_ms: u64,
    restarts: u64,
    mentioned: bool,
}

serialize_as!(ServiceInfo, it => ServiceInfoForm {
    name: &it.name,
    generation: it.generation,
    state: &it.state,
    since_ms: milliseconds(it.since),
    restarts: it.restarts,
    mentioned: it.mentioned,
});

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum ServiceStateForm<'a> {
    Waiting,
    Running,
    Pausing(&'a ServiceEnd),
    Stopping,
    Stuck,
    Ended(&'a ServiceEnd),
}

serialize_as!(ServiceState, it => match it {
    ServiceState::Waiting => ServiceStateForm::Waiting,
    ServiceState::Running => ServiceStateForm::Running,
    ServiceState::Pausing(how) => ServiceStateForm::Pausing(how),
    ServiceState::Stopping => ServiceStateForm::Stopping,
    ServiceState::Stuck => ServiceStateForm::Stuck,
    ServiceState::Ended(how) => ServiceStateForm::Ended(how),
});

fn text(path: &Path) -> String {
    Escaped(path).to_string()
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A time before 1970 is 1970.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
