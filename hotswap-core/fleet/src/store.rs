//! What is kept at the server: plugins, roll-outs, the hosts' statuses and their log.

use std::{collections::BTreeMap, fmt, iter, sync::Arc, time::Duration};

use async_nats::{
    Client, HeaderMap,
    jetstream::{
        self,
        consumer::{DeliverPolicy, pull},
        context::CreateStreamErrorKind,
        kv::{Operation, UpdateErrorKind},
        object_store::{ObjectInfo, ObjectMetadata, ObjectStore},
        stream::{self, DirectGetErrorKind},
    },
};
use futures_util::{Stream, StreamExt as _};
use hotswap_core::Sha256;
use serde::{Deserialize, Serialize};
use tokio::{sync::OnceCell, time::timeout};

use crate::{
    decision::Seen,
    error::{FleetError, FleetErrorKind, Result},
    names,
    rollout::RolloutRecord,
    status::Status,
};

/// How many changes of each plugin's record are kept.
const CHANGES_MAX: i64 = 10_000;
/// For how long a log's entries are kept.
const LOG_AGE_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How much of a plugin is in a message. Of each host that fetches it at the same time, a server has at most one in its
/// memory; each costs the host a round trip.
const CHUNK_BYTES: usize = 128 * 1024;
/// How long the next message of a history may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request waits for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The key in an object's metadata under which its signature is.
const SIGNATURE: &str = "minisig";

/// The server's side of a fleet.
#[derive(Clone)]
pub struct Store {
    client: Client,
    jetstream: jetstream::Context,
    // Buckets, once they were asked what they are.
    rollouts: Arc<OnceCell<jetstream::kv::Store>>,
    plugins: Arc<OnceCell<ObjectStore>>,
}

/// A plugin and its signature, as they were fetched. Nothing of it was checked.
#[derive(Clone)]
pub struct Fetched {
    /// The bytes of the plugin.
    pub bytes: Vec<u8>,
    /// The signature, in minisign's form.
    pub signature: String,
}

/// A plugin that is stored, without its bytes.
#[derive(Clone, Debug, Serialize)]
pub struct StoredBuild {
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// When it was published, in milliseconds since 1970.
    pub published_ms: u64,
    /// The trusted comment of its signature, which was not checked. Empty if it has none.
    pub comment: String,
    /// The plugins whose record has it, as the build to run or as the one before.
    pub used_by: Vec<String>,
}

/// An entry of the log: something that happened at a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogEntry {
    /// When the server got it, in milliseconds since 1970.
    #[serde(default)]
    pub at_ms: u64,
    /// The host's name.
    pub host: String,
    /// The plugin's name.
    pub plugin: String,
    /// One line.
    pub text: String,
    /// The event, as [`hotswap_core::Event`] is serialized, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<serde_json::Value>,
}

/// A message that was stored.
struct Stored {
    /// When the server got it, in milliseconds since 1970.
    at_ms: u64,
    sequence: u64,
    subject: String,
    payload: Vec<u8>,
}

impl Store {
    /// Uses a connection.
    pub fn new(client: Client) -> Self {
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(REQUEST_TIMEOUT);
        Self {
            client,
            jetstream,
            rollouts: Arc::default(),
            plugins: Arc::default(),
        }
    }

    /// The connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Makes what is not there yet at the server. What is there stays as it is.
    ///
    /// # Errors
    ///
    /// The server does not answer, does not allow it, or has something else under one of the names.
    pub async fn init(&self, replicas: usize) -> Result<()> {
        // By hand, since `create_key_value` has a history of 64 at most, and asks for what servers before 2.10 do not
        // know.
        let bucket = |name: &str, history| stream::Config {
            name: format!("KV_{name}"),
            subjects: vec![format!("$KV.{name}.>")],
            max_messages_per_subject: history,
            discard: stream::DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            num_replicas: replicas,
            ..stream::Config::default()
        };
        let rollouts = stream::Config {
            description: Some("One roll-out for each plugin, with its history".to_owned()),
            allow_rollup: false,
            deny_purge: true,
            ..bucket(names::ROLLOUTS, CHANGES_MAX)
        };
        let hosts = stream::Config {
            description: Some("The last status of each host".to_owned()),
            ..bucket(names::HOSTS, 1)
        };
        let log = stream::Config {
            name: names::LOG.to_owned(),
            description: Some("What has happened at the hosts".to_owned()),
            subjects: vec![names::log_subject("*", "*")],
            max_age: LOG_AGE_MAX,
            deny_delete: true,
            deny_purge: true,
            num_replicas: replicas,
            ..stream::Config::default()
        };
        let plugins = stream::Config {
            name: names::PLUGINS_STREAM.to_owned(),
            description: Some("Plugins, by their SHA-256".to_owned()),
            subjects: ["C", "M"]
                .map(|kind| format!("$O.{}.{kind}.>", names::PLUGINS))
                .to_vec(),
            discard: stream::DiscardPolicy::New,
            allow_rollup: true,
            allow_direct: true,
            num_replicas: replicas,
            ..stream::Config::default()
        };
        for config in [rollouts, hosts, log, plugins] {
            let name = config.name.clone();
            match self.jetstream.create_stream(config).await {
                Ok(_) => {}
                Err(error) if is_there_already(&error) => {}
                Err(error) => {
                    return Err(FleetError::caused(
                        FleetErrorKind::Server,
                        format!("cannot make the stream {name}"),
                        error,
                    ));
                }
            }
        }
        Ok(())
    }

    async fn rollouts(&self) -> Result<&jetstream::kv::Store> {
        let open = || self.jetstream.get_key_value(names::ROLLOUTS);
        let bucket = self.rollouts.get_or_try_init(open).await;
        bucket.map_err(|error| {
            let hint = "cannot use the bucket of roll-outs (made by `hotswap-fleet init`)";
            FleetError::caused(FleetErrorKind::Server, hint, error)
        })
    }

    async fn plugins(&self) -> Result<&ObjectStore> {
        let open = || self.jetstream.get_object_store(names::PLUGINS);
        self.plugins.get_or_try_init(open).await.map_err(|error| {
            let hint = "cannot use the object store (made by `hotswap-fleet init`)";
            FleetError::caused(FleetErrorKind::Server, hint, error)
        })
    }

    /// Stores a plugin under its digest, and returns that. What is there already is replaced as a whole: it may be
    /// damaged, and a newer signature is part of what describes an object, which async-nats 0.51 cannot change by
    /// itself (its `update_metadata` leaves out `metadata`).
    ///
    /// # Errors
    ///
    /// The server does not answer, or does not allow it.
    pub async fn publish(&self, bytes: &[u8], signature: &str) -> Result<String> {
        let sha256 = Sha256::of(bytes).to_string();
        let metadata = ObjectMetadata {
            name: names::object(&sha256),
            chunk_size: Some(CHUNK_BYTES),
            metadata: [(SIGNATURE.to_owned(), signature.to_owned())].into(),
            ..ObjectMetadata::default()
        };
        let put = self.plugins().await?.put(metadata, &mut &*bytes).await;
        put.map_err(|error| server("cannot store the plugin", error))?;
        Ok(sha256)
    }

    /// Fetches a plugin by its digest, if it has at most so many bytes. The whole may take as long as it takes; the
    /// server may not be silent for longer than `answer_timeout`.
    ///
    /// # Errors
    ///
    /// There is none, or a part of it is missing ([`FleetErrorKind::NotFound`]); it is larger, or has other bytes
    /// ([`FleetErrorKind::Invalid`]); or the server does not answer.
    pub async fn fetch(
        &self,
        sha256: &str,
        bytes_max: u64,
        answer_timeout: Duration,
    ) -> Result<Fetched> {
        let Some(info) = self.info(sha256).await? else {
            return Err(not_found(sha256));
        };
        let size = info.size as u64;
        if size > bytes_max {
            return Err(FleetError::invalid(format!(
                "the plugin has {size} bytes, and {bytes_max} are accepted"
            )));
        }
        let bytes = self.chunks(sha256, &info, answer_timeout).await?;
        let found = Sha256::of(&bytes).to_string();
        if found != sha256 {
            let what = "the server has other bytes";
            return Err(FleetError::differs(what, sha256, &found));
        }
        Ok(Fetched {
            bytes,
            signature: signature_in(&info).unwrap_or_default(),
        })
    }

    /// The bytes of an object, which are asked for one chunk after the other. A consumer, which is how the object store
    /// itself reads, has them all sent at once: with thousands of hosts, the server would have that many copies in
    /// memory.
    async fn chunks(
        &self,
        sha256: &str,
        info: &ObjectInfo,
        answer_timeout: Duration,
    ) -> Result<Vec<u8>> {
        let failed = |error: async_nats::Error| server("cannot fetch the plugin", error);
        let subject = names::chunks_subject(&info.nuid);
        let mut bytes = Vec::with_capacity(info.size);
        let mut next = 1;
        let (mut patience, mut waited) = (REQUEST_TIMEOUT, Duration::ZERO);
        while bytes.len() < info.size {
            let mut jetstream = self.jetstream.clone();
            jetstream.set_timeout(patience.min(answer_timeout));
            let stream = jetstream.get_stream_no_info(names::PLUGINS_STREAM).await;
            let stream = stream.map_err(|error| failed(error.into()))?;
            let chunk = stream.direct_get_next_for_subject(&subject, Some(next));
            let chunk = match chunk.await {
                Ok(chunk) => chunk,
                // So many may ask that the server has not come to it. Asking more often would only give it more to do.
                Err(error) if error.kind() == DirectGetErrorKind::TimedOut => {
                    waited += patience;
                    if waited >= answer_timeout {
                        return Err(failed(error.into()));
                    }
                    patience *= 2;
                    continue;
                }
                // It is being replaced, or the server that was asked has not got all of it yet.
                Err(error) if error.kind() == DirectGetErrorKind::NotFound => {
                    let what = format!("the server does not have all of the plugin {sha256}");
                    return Err(FleetError::new(FleetErrorKind::NotFound, what));
                }
                Err(error) => return Err(failed(error.into())),
            };
            (patience, waited) = (REQUEST_TIMEOUT, Duration::ZERO);
            next = chunk.sequence + 1;
            if chunk.payload.is_empty() || chunk.payload.len() > info.size - bytes.len() {
                let what = "the server has other bytes than it says";
                return Err(FleetError::invalid(what));
            }
            bytes.extend_from_slice(&chunk.payload);
        }
        Ok(bytes)
    }

    /// All plugins that are stored, the one first that was published first.
    ///
    /// # Errors
    ///
    /// The server does not answer, or a record cannot be read.
    pub async fn builds(&self) -> Result<Vec<StoredBuild>> {
        let mut used = BTreeMap::<String, Vec<String>>::new();
        let failed = |error: async_nats::Error| server("cannot list the roll-outs", error);
        let keys = self.rollouts().await?.keys().await;
        let mut keys = keys.map_err(|error| failed(error.into()))?;
        while let Some(plugin) = keys.next().await {
            let plugin = plugin.map_err(|error| failed(error.into()))?;
            if let Some((rollout, _)) = self.rollout(&plugin).await? {
                for build in iter::once(rollout.target).chain(rollout.previous) {
                    used.entry(build.sha256).or_default().push(plugin.clone());
                }
            }
        }
        let all = self
            .all(names::PLUGINS_STREAM, names::descriptions_subject())
            .await?;
        let builds = all.iter().filter_map(|it| {
            let info: ObjectInfo = parse(&it.payload).ok()?;
            let sha256 = names::plugin_in(&info.name).filter(|_| !info.deleted)?;
            Some(StoredBuild {
                sha256: sha256.to_owned(),
                bytes: info.size as u64,
                published_ms: it.at_ms,
                comment: comment_in(&info).unwrap_or_default(),
                used_by: used.get(sha256).cloned().unwrap_or_default(),
            })
        });
        Ok(builds.collect())
    }

    /// Deletes a plugin that no record has.
    ///
    /// # Errors
    ///
    /// There is none ([`FleetErrorKind::NotFound`]), a record has it ([`FleetErrorKind::Invalid`]), or the server does
    /// not answer.
    pub async fn delete(&self, sha256: &str) -> Result<()> {
        let builds = self.builds().await?;
        let Some(build) = builds.into_iter().find(|it| it.sha256 == sha256) else {
            return Err(not_found(sha256));
        };
        if let Some(plugin) = build.used_by.first() {
            let what = format!("{sha256} is in the record of `{plugin}`");
            return Err(FleetError::invalid(what));
        }
        let deleted = self.plugins().await?.delete(names::object(sha256)).await;
        deleted.map_err(|error| server("cannot delete the plugin", error))
    }

    async fn info(&self, sha256: &str) -> Result<Option<ObjectInfo>> {
        use jetstream::object_store::InfoErrorKind;
        match self.plugins().await?.info(names::object(sha256)).await {
            Ok(info) if info.deleted => Ok(None),
            Ok(info) => Ok(Some(info)),
            Err(error) if error.kind() == InfoErrorKind::NotFound => Ok(None),
            Err(error) => Err(server("cannot look for the plugin", error)),
        }
    }

    /// The signature of a plugin, if that is stored.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub async fn signature(&self, sha256: &str) -> Result<Option<String>> {
        Ok(self.info(sha256).await?.as_ref().and_then(signature_in))
    }

    /// The record of a plugin's roll-out, and its revision.
    ///
    /// # Errors
    ///
    /// The server does not answer, or what is stored is no record ([`FleetErrorKind::Invalid`]).
    pub async fn rollout(&self, plugin: &str) -> Result<Option<(RolloutRecord, u64)>> {
        let bucket = self.rollouts().await?;
        let entry = bucket
            .entry(plugin)
            .await
            .map_err(|error| server("cannot read the roll-out", error))?;
        let Some(entry) = entry else {
            return Ok(None);
        };
        if entry.operation != Operation::Put {
            return Err(FleetError::invalid("the roll-out was deleted"));
        }
        Ok(Some((parse(&entry.value)?, entry.revision)))
    }

    /// The revision of the last change in the bucket of roll-outs, of any plugin. The server that leads says it, so
    /// that it is never below a revision that was read, unless the bucket was deleted and made anew, or restored.
    ///
    /// # Errors
    ///
    /// There is no bucket, or the server does not answer.
    pub(crate) async fn last_revision(&self) -> Result<u64> {
        let info = self.rollouts().await?.stream.get_info().await;
        let info = info.map_err(|error| server("cannot ask for the bucket of roll-outs", error))?;
        Ok(info.state.last_sequence)
    }

    /// The last record of a plugin, whatever was stored after it, and the revision of the latter.
    ///
    /// # Errors
    ///
    /// There is no record, or the server does not answer.
    pub(crate) async fn last_record(&self, plugin: &str) -> Result<(RolloutRecord, u64)> {
        let messages = self
            .all(names::ROLLOUTS_STREAM, names::rollout_subject(plugin))
            .await?;
        let revision = messages.last().map(|it| it.sequence);
        let mut records = messages
            .iter()
            .rev()
            .filter_map(|it| parse(&it.payload).ok());
        records
            .next()
            .zip(revision)
            .ok_or_else(|| FleetError::invalid(format!("there is no record of `{plugin}`")))
    }

    /// Replaces the record, if it still has this revision (0: if there is none), and returns the new one.
    ///
    /// # Errors
    ///
    /// It has another revision ([`FleetErrorKind::Conflict`]), or the server does not answer. Then the record may have
    /// been replaced, or not.
    pub async fn change(
        &self,
        plugin: &str,
        rollout: &RolloutRecord,
        revision: u64,
    ) -> Result<u64> {
        let bucket = self.rollouts().await?;
        let json = serde_json::to_vec(rollout).expect("a record is JSON");
        let updated = bucket.update(plugin, json.into(), revision).await;
        updated.map_err(|error| match error.kind() {
            UpdateErrorKind::WrongLastRevision => {
                let what = "the roll-out was changed by somebody else meanwhile";
                FleetError::new(FleetErrorKind::Conflict, what)
            }
            _ => server("cannot change the roll-out", error),
        })
    }

    /// All records of a plugin that are kept, the oldest first.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub async fn changes(&self, plugin: &str) -> Result<Vec<RolloutRecord>> {
        let messages = self
            .all(names::ROLLOUTS_STREAM, names::rollout_subject(plugin))
            .await?;
        // Whoever may write to the bucket may have written something else.
        Ok(messages
            .iter()
            .filter_map(|it| parse(&it.payload).ok())
            .collect())
    }

    /// The log of a plugin, the oldest entry first.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub async fn log(&self, plugin: &str) -> Result<Vec<LogEntry>> {
        let messages = self
            .all(names::LOG, names::log_subject("*", plugin))
            .await?;
        let entries = messages.iter().filter_map(|it| {
            let entry: LogEntry = parse(&it.payload).ok()?;
            Some(LogEntry {
                at_ms: it.at_ms,
                host: names::host_in(&it.subject)?.to_owned(),
                ..entry
            })
        });
        Ok(entries.collect())
    }

    /// The messages of a stream with this subject.
    async fn all(&self, stream: &str, subject: String) -> Result<Vec<Stored>> {
        let failed = |error: async_nats::Error| server("cannot read the history", error);
        let stream = self.jetstream.get_stream(stream).await.map_err(|error| {
            let hint = format!("cannot use the stream {stream} (made by `hotswap-fleet init`)");
            server(&hint, error)
        })?;
        let config = pull::OrderedConfig {
            filter_subject: subject,
            deliver_policy: DeliverPolicy::All,
            ..pull::OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await;
        let mut consumer = consumer.map_err(|error| failed(error.into()))?;
        let info = consumer.info().await;
        let mut left = info.map_err(|error| failed(error.into()))?.num_pending;
        let mut found = Vec::new();
        if left > 0 {
            let messages = consumer.messages().await;
            let mut messages = messages.map_err(|error| failed(error.into()))?;
            // What is replaced meanwhile comes again at the end, so that there are as many at least.
            while left > 0 {
                let message = match timeout(READ_TIMEOUT, messages.next()).await {
                    Ok(Some(message)) => message.map_err(|error| failed(error.into()))?,
                    Ok(None) | Err(_) => return Err(failed("the server has stopped".into())),
                };
                let info = message.info().map_err(failed)?;
                left = info.pending.min(left - 1);
                found.push(Stored {
                    at_ms: ms(info.published.unix_timestamp_nanos()),
                    sequence: info.stream_sequence,
                    subject: message.subject.to_string(),
                    payload: message.payload.to_vec(),
                });
            }
        }
        Ok(found)
    }

    /// What hosts say of a plugin from now on. What is not understood is left out.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub async fn statuses(&self, plugin: &str) -> Result<impl Stream<Item = Status> + Unpin> {
        let subject = names::host_subject("*", plugin);
        let subscribed = self.client.subscribe(subject).await;
        let messages = subscribed.map_err(|error| server("cannot listen to the hosts", error))?;
        let statuses =
            messages.filter_map(|it| std::future::ready(status(&it.subject, &it.payload)));
        Ok(statuses.boxed())
    }

    /// What each host has said last of a plugin.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub async fn hosts(&self, plugin: &str) -> Result<Vec<Seen>> {
        let subject = names::host_subject("*", plugin);
        let mut hosts = BTreeMap::new();
        for message in self.all(names::HOSTS_STREAM, subject).await? {
            if let Some(status) = status(&message.subject, &message.payload) {
                let heard_ms = message.at_ms;
                hosts.insert(status.host.clone(), Seen { status, heard_ms });
            }
        }
        Ok(hosts.into_values().collect())
    }

    /// Says what a host is about.
    ///
    /// # Errors
    ///
    /// The server does not answer, or does not allow it.
    pub async fn put_status(&self, status: &Status) -> Result<()> {
        let subject = names::host_subject(&status.host, &status.plugin);
        let json = serde_json::to_vec(status).expect("a status is JSON");
        let failed = |error| server("cannot write the status", error);
        let published = self.jetstream.publish(subject, json.into()).await;
        published.map_err(failed)?.await.map_err(failed)?;
        Ok(())
    }

    /// Appends to a host's log. What has the same identifier within two minutes is stored once.
    ///
    /// # Errors
    ///
    /// The server does not answer, or does not allow it.
    pub async fn append(&self, entry: &LogEntry, id: &str) -> Result<()> {
        let subject = names::log_subject(&entry.host, &entry.plugin);
        let json = serde_json::to_vec(entry).expect("an entry is JSON");
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        let failed = |error| server("cannot write to the log", error);
        let published = self
            .jetstream
            .publish_with_headers(subject, headers, json.into())
            .await;
        published.map_err(failed)?.await.map_err(failed)?;
        Ok(())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// What a host says, if it says it of itself.
fn status(subject: &str, json: &[u8]) -> Option<Status> {
    let status: Status = parse(json).ok()?;
    (names::host_in(subject) == Some(&status.host)).then_some(status)
}

fn signature_in(info: &ObjectInfo) -> Option<String> {
    info.metadata.get(SIGNATURE).cloned()
}

fn comment_in(info: &ObjectInfo) -> Option<String> {
    let signature = minisign_verify::Signature::decode(&signature_in(info)?).ok()?;
    Some(signature.trusted_comment().to_owned())
}

fn not_found(sha256: &str) -> FleetError {
    let what = format!("the server has no plugin {sha256}");
    FleetError::new(FleetErrorKind::NotFound, what)
}

fn is_there_already(error: &jetstream::context::CreateStreamError) -> bool {
    matches!(error.kind(), CreateStreamErrorKind::JetStream(error)
        if error.error_code() == jetstream::ErrorCode::STREAM_NAME_EXIST)
}

fn server(what: &str, error: impl Into<async_nats::Error>) -> FleetError {
    FleetError::caused(FleetErrorKind::Server, what, error)
}

fn parse<T: for<'a> Deserialize<'a>>(json: &[u8]) -> Result<T> {
    serde_json::from_slice(json)
        .map_err(|error| FleetError::caused(FleetErrorKind::Invalid, "cannot read a record", error))
}

fn ms(nanos: i128) -> u64 {
    u64::try_from(nanos / 1_000_000).unwrap_or(0)
}
