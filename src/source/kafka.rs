//! Kafka through librdkafka: partitions assigned with our own positions, never a group's.
//!
//! Promises: every partition of the asked topics is read from its resume position, else from its earliest record; new
//! partitions are found while running; a broker that is absent, gone or bounced is waited for; a position that the log
//! no longer has is named and met by the policy, never skipped in silence. Commits go to the group for lag tools and
//! are never read back. End-of-partition offsets move the position, so control records and compaction gaps at the end
//! of a log leave nobody waiting. Memory is bounded by `queued.max.messages.kbytes` and by not polling.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, Statistics, TopicPartitionList};

use super::{Limit, Phase, Polled, RecordBatch, Source, SourceError, SourceStatus};
use crate::clock::now_ms;
use crate::model::{Coordinates, Position, TopicId, Topics};

/// How long one look at the metadata may take.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// What happens when the log no longer has the position that was to be read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LostPositionPolicy {
    /// Stop reading and say so; what was folded is still served.
    #[default]
    Halt,
    /// Go on from the earliest record there is; answers say since when they are incomplete.
    Continue,
}

/// How to reach a log.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// The topics, all of whose partitions are read.
    pub topics: Vec<String>,
    /// The group that commits go to.
    pub group: String,
    /// When a position is lost.
    pub lost_position: LostPositionPolicy,
    /// How often new partitions are looked for.
    pub discovery_interval: Duration,
    /// Any property of librdkafka; these win over ours.
    pub properties: BTreeMap<String, String>,
    /// Where reading begins.
    pub resume: Position,
}

/// What librdkafka tells between polls.
#[derive(Debug, Clone, Default)]
struct Told {
    /// Ends of partitions as last signalled: (topic, partition) to the offset after the last record.
    ends: BTreeMap<(String, i32), i64>,
    /// High watermarks.
    highs: BTreeMap<(String, i32), i64>,
    /// New statistics since the last look.
    fresh: bool,
    /// Whether any broker is up.
    broker_up: bool,
}

/// Receives what librdkafka has to say.
struct Listener {
    told: Arc<Mutex<Told>>,
    status: SourceStatus,
}

impl ClientContext for Listener {
    fn stats(&self, statistics: Statistics) {
        let mut told = self.told.lock().expect("no holder of the statistics panics");
        told.fresh = true;
        told.broker_up = statistics.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP");
        for (name, topic) in &statistics.topics {
            for (id, partition) in topic.partitions.iter().filter(|(id, _)| **id >= 0) {
                let key = (name.clone(), *id);
                if partition.eof_offset >= 0 {
                    told.ends.insert(key.clone(), partition.eof_offset);
                }
                if partition.hi_offset >= 0 {
                    told.highs.insert(key, partition.hi_offset);
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "the Kafka client reports an error");
        self.status.update(|state| state.last_error = Some(format!("{error}: {reason}")));
    }
}

impl ConsumerContext for Listener {}

/// A consumer of all partitions of some topics.
pub struct KafkaSource {
    config: KafkaConfig,
    consumer: BaseConsumer<Listener>,
    told: Arc<Mutex<Told>>,
    status: SourceStatus,
    topics: Topics,
    topic_ids: BTreeMap<String, TopicId>,
    assigned: BTreeSet<(String, i32)>,
    next_discovery: Instant,
    next_offsets: BTreeMap<(String, i32), i64>,
    ends_to_note: BTreeMap<(String, i32), i64>,
    committed: Position,
}

impl std::fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSource").field("brokers", &self.config.brokers).field("assigned", &self.assigned).finish()
    }
}

impl KafkaSource {
    /// A consumer; it connects when it is polled.
    pub fn new(config: KafkaConfig, topics: Topics, status: SourceStatus) -> Result<Self, SourceError> {
        let told = Arc::new(Mutex::new(Told::default()));
        let mut client = ClientConfig::new();
        let ours = [
            ("bootstrap.servers", config.brokers.as_str()),
            ("group.id", config.group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("isolation.level", "read_committed"),
            ("check.crcs", "true"),
            ("allow.auto.create.topics", "false"),
            ("topic.metadata.refresh.interval.ms", "10000"),
            ("enable.partition.eof", "true"),
            ("queued.max.messages.kbytes", "16384"),
            ("socket.keepalive.enable", "true"),
            ("fetch.wait.max.ms", "50"),
            ("statistics.interval.ms", "500"),
            ("reconnect.backoff.max.ms", "2000"),
        ];
        for (name, value) in ours {
            client.set(name, value);
        }
        for (name, value) in &config.properties {
            client.set(name, value);
        }
        let listener = Listener { told: Arc::clone(&told), status: status.clone() };
        let consumer = client.create_with_context(listener).map_err(|error| SourceError::Setup(error.to_string()))?;
        Ok(Self {
            config,
            consumer,
            told,
            status,
            topics,
            topic_ids: BTreeMap::new(),
            assigned: BTreeSet::new(),
            next_discovery: Instant::now(),
            next_offsets: BTreeMap::new(),
            ends_to_note: BTreeMap::new(),
            committed: Position::default(),
        })
    }

    /// Looks for partitions that are not assigned yet.
    fn discover(&mut self) -> Result<(), SourceError> {
        let wait = if self.assigned.is_empty() { Duration::from_millis(250) } else { self.config.discovery_interval };
        self.next_discovery = Instant::now() + wait;
        let mut found = Vec::new();
        for topic in &self.config.topics {
            // A short timeout while nothing is assigned: there is nothing to read that it could hold up.
            match self.consumer.fetch_metadata(Some(topic), METADATA_TIMEOUT) {
                Ok(metadata) => {
                    let partitions = metadata
                        .topics()
                        .iter()
                        .filter(|known| known.error().is_none())
                        .flat_map(|known| known.partitions());
                    let new = partitions.map(|partition| (topic.clone(), partition.id()));
                    found.extend(new.filter(|partition| !self.assigned.contains(partition)));
                }
                Err(error) => {
                    self.note_error(&error);
                    return Ok(());
                }
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for (topic, partition) in &found {
            let offset = match self.config.resume.next_offset(topic, *partition) {
                Some(next) => Offset::Offset(next),
                None => Offset::Beginning,
            };
            list.add_partition_offset(topic, *partition, offset)
                .map_err(|error| SourceError::Setup(error.to_string()))?;
        }
        let assigned = if self.assigned.is_empty() {
            self.consumer.assign(&list)
        } else {
            self.consumer.incremental_assign(&list)
        };
        if let Err(error) = assigned {
            self.note_error(&error);
            return Ok(());
        }
        for (topic, partition) in found {
            tracing::info!(topic, partition, "reading a partition");
            let id = self.topics.intern(&topic).ok_or_else(|| SourceError::Setup("too many topics".to_owned()))?;
            self.topic_ids.insert(topic.clone(), id);
            self.assigned.insert((topic, partition));
        }
        self.note_end_at_start();
        Ok(())
    }

    /// The end of every partition, asked once: ready means to have reached it.
    fn note_end_at_start(&mut self) {
        if self.status.get().end_at_start.is_some() {
            return;
        }
        let mut end = Position::default();
        for (topic, partition) in &self.assigned {
            match self.consumer.fetch_watermarks(topic, *partition, METADATA_TIMEOUT) {
                Ok((_, high)) => end.advance(&topic.as_str().into(), *partition, high),
                Err(error) => return self.note_error(&error),
            }
        }
        self.status.update(|state| {
            state.phase = Phase::Reading;
            state.last_heard_ms = now_ms();
            state.end_at_start = Some(end);
        });
    }

    fn note_error(&self, error: &KafkaError) {
        tracing::debug!(%error, "the Kafka client reports an error");
        self.status.update(|state| {
            if state.phase == Phase::Reading {
                state.phase = Phase::Disconnected;
            }
            state.last_error = Some(error.to_string());
        });
    }

    fn on_error(&mut self, error: &KafkaError) -> Result<(), SourceError> {
        match error {
            KafkaError::PartitionEOF(_) => {
                self.status.update(|state| {
                    state.last_heard_ms = now_ms();
                    if state.phase == Phase::Disconnected {
                        state.phase = Phase::Reading;
                    }
                });
                Ok(())
            }
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.on_lost_position(error)
            }
            KafkaError::MessageConsumptionFatal(code) => {
                Err(SourceError::Setup(format!("fatal error of the client: {code}")))
            }
            other => {
                self.note_error(other);
                Ok(())
            }
        }
    }

    /// Finds which partitions no longer have their next record, and does what the policy says.
    fn on_lost_position(&mut self, error: &KafkaError) -> Result<(), SourceError> {
        for (topic, partition) in self.assigned.clone() {
            let resume = self.config.resume.next_offset(&topic, partition);
            let Some(next) = self.next_offsets.get(&(topic.clone(), partition)).copied().or(resume) else { continue };
            let Ok((low, high)) = self.consumer.fetch_watermarks(&topic, partition, METADATA_TIMEOUT) else { continue };
            if (low..=high).contains(&next) {
                continue;
            }
            let detail = format!("offset {next} is next, and the log has {low} to {high} ({error})");
            tracing::error!(
                topic,
                partition,
                next,
                low,
                high,
                "the log no longer has the position that was to be read next"
            );
            self.status.update(|state| {
                state.last_error = Some(format!("{topic} [{partition}]: {detail}"));
                state.incomplete_since_ms.get_or_insert_with(now_ms);
            });
            match self.config.lost_position {
                LostPositionPolicy::Halt => {
                    self.status.update(|state| state.phase = Phase::PositionLost);
                    return Err(SourceError::PositionLost { topic, partition, detail });
                }
                LostPositionPolicy::Continue => {
                    let seek = self.consumer.seek(&topic, partition, Offset::Beginning, METADATA_TIMEOUT);
                    seek.map_err(|error| SourceError::Setup(error.to_string()))?;
                }
            }
        }
        Ok(())
    }

    /// What the statistics say, once everything that was fetched before them has been taken.
    fn take_statistics(&mut self) {
        let mut told = self.told.lock().expect("no holder of the statistics panics");
        if !std::mem::take(&mut told.fresh) {
            return;
        }
        self.ends_to_note = std::mem::take(&mut told.ends);
        let (up, highs) = (told.broker_up, told.highs.clone());
        drop(told);
        self.status.update(|state| {
            for ((topic, partition), high) in highs {
                state.end.advance(&topic.into(), partition, high);
            }
            match (up, state.phase) {
                (true, Phase::Disconnected) => {
                    state.phase = Phase::Reading;
                    state.last_error = None;
                }
                (false, Phase::Reading) => state.phase = Phase::Disconnected,
                _ => {}
            }
            if up {
                state.last_heard_ms = now_ms();
            }
        });
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, batch: &mut RecordBatch, wait: Duration, limit: Limit) -> Result<Polled, SourceError> {
        if Instant::now() >= self.next_discovery {
            self.discover()?;
        }
        let mut timeout = wait;
        let mut errors = Vec::new();
        while !limit.reached(batch) {
            match self.consumer.poll(timeout) {
                None => {
                    self.take_statistics();
                    break;
                }
                Some(Err(error)) => errors.push(error),
                Some(Ok(message)) => {
                    let Some(topic) = self.topic_ids.get(message.topic()).copied() else { continue };
                    let coordinates = Coordinates { topic, partition: message.partition(), offset: message.offset() };
                    let timestamp_ms = message.timestamp().to_millis().unwrap_or(-1);
                    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                    let headers = headers.map(|header| (header.key, header.value));
                    batch.push_wire(coordinates, timestamp_ms, message.key(), message.payload(), headers);
                    match self.next_offsets.get_mut(&(message.topic().to_owned(), message.partition())) {
                        Some(next) => *next = message.offset() + 1,
                        None => {
                            let partition = (message.topic().to_owned(), message.partition());
                            self.next_offsets.insert(partition, message.offset() + 1);
                        }
                    }
                }
            }
            timeout = Duration::ZERO;
            if errors.len() > 100 {
                break;
            }
        }
        for error in &errors {
            self.on_error(error)?;
        }
        if batch.is_empty() {
            return Ok(Polled::Nothing);
        }
        self.status.update(|state| {
            state.last_heard_ms = now_ms();
            state.phase = Phase::Reading;
        });
        Ok(Polled::Records)
    }

    fn note_ends(&mut self, position: &mut Position) {
        for ((topic, partition), end) in std::mem::take(&mut self.ends_to_note) {
            if self.assigned.contains(&(topic.clone(), partition)) {
                position.advance(&topic.into(), partition, end);
            }
        }
    }

    fn commit(&mut self, position: &Position) {
        if *position == self.committed {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (topic, partition, next) in position.iter() {
            if let Err(error) = list.add_partition_offset(topic, partition, Offset::Offset(next)) {
                tracing::debug!(%error, "an offset cannot be committed");
            }
        }
        match self.consumer.commit(&list, CommitMode::Async) {
            Ok(()) => self.committed.clone_from(position),
            Err(error) => tracing::debug!(%error, "the position was not committed; lag tools will lag"),
        }
    }
}
