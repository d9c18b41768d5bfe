//! Kafka through librdkafka: partitions assigned with our own positions, never a group's.
//!
//! In: a cluster, topics, a position. Out: records, in order within a partition; ends, rewinds, and a state for every
//! partition. Promises: every partition of the topics is read from its resume position, else from its earliest record,
//! and goes on at exactly the next offset after whatever broke it off; new partitions are found while running; a
//! broker that is absent, gone or bounced is waited for; a position that the log no longer has, and a batch that is
//! damaged, are named and met by the policy, never skipped in silence. A poll makes local calls alone and never waits
//! longer than it is told. Commits go to the group for lag tools and are never read back. Memory is bounded by what
//! the fetcher queues and by not polling. Left to others: settings ([`properties`]), questions to the cluster
//! (`scout`), whether the log is the one that was read and the policy if not (`identity`, `check`, `checker`), commits
//! (`commits`), queues into batches (`intake`), the judgement of a partition (`partition`), what is shown (`shown`).

mod check;
mod checker;
mod commits;
mod ending;
mod heartbeats;
mod identity;
mod intake;
mod listener;
mod partition;
pub mod properties;
mod scout;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use self::checker::Checker;
use self::commits::Commits;
use self::ending::Beside;
use self::listener::{Bell, Listener};
use self::partition::{Partition, Verdict};
use self::scout::{Ask, News, Scout, Watermarks};
use self::shown::Shown;
use super::identity::verdict::{Finding, IdentityFault};
use super::identity::{IdentityHandle, LogIdentity};
use super::{Limit, Phase, Polled, RecordBatch, Rewound, Source, SourceError, SourceStatus};
use crate::model::{Position, Topics};

/// What happens when the log no longer has the position that was to be read next, or is another log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LostPositionPolicy {
    /// Stop reading and say so; what was folded is still served.
    #[default]
    Halt,
    /// Go on from the earliest record there is; answers say since when they are incomplete.
    Continue,
    /// Make the state anew from the earliest record there is, beside the one that is shown; when the log is read to the
    /// end that it had, it takes its place, and what the log no longer mentions is gone.
    Rebuild,
}

/// How to reach a log.
#[derive(Debug, Clone, Default)]
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
    /// The topic that tells whether the pipeline before Kafka is alive; empty for none.
    pub heartbeat_topic: String,
    /// Properties of librdkafka, but for those that [`properties`] refuses; these win over ours.
    pub properties: BTreeMap<String, String>,
    /// Where reading begins.
    pub resume: Position,
    /// What is known of the log that was read up to there; it is compared before reading begins.
    pub known: LogIdentity,
}

/// At most so many events of the client are served by one poll.
const EVENTS_MAX: usize = 1_000;

/// A consumer of all partitions of some topics.
pub struct KafkaSource {
    config: KafkaConfig,
    bell: Bell,
    scout: Scout,
    listener: Listener,
    /// Made when it is known how many partitions share the memory.
    consumer: Option<Arc<BaseConsumer<Listener>>>,
    partitions: Vec<Partition>,
    /// Partitions that wait for the consumer.
    found: Vec<(Arc<str>, i32)>,
    /// Topics that the cluster has said anything about.
    answered: BTreeSet<Arc<str>>,
    /// Topics whose partitions have been seen.
    known: BTreeSet<Arc<str>>,
    topics: Topics,
    /// Where the next poll begins, so that no partition starves another.
    turn: usize,
    rewinds: Vec<Rewound>,
    halted: bool,
    /// Why the state is to be made anew.
    another_log: Option<String>,
    commits: Commits,
    checker: Checker,
    heartbeats: Option<Beside>,
    identity: IdentityHandle,
    shown: Shown,
}

impl std::fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let partitions: Vec<_> = self.partitions.iter().map(Partition::state).collect();
        f.debug_struct("KafkaSource").field("brokers", &self.config.brokers).field("partitions", &partitions).finish()
    }
}

impl KafkaSource {
    /// A consumer; it begins to look for its topics, and reads when it is polled.
    pub fn new(config: KafkaConfig, topics: Topics, status: SourceStatus) -> Result<Self, SourceError> {
        properties::check(&config.topics, &config.properties).map_err(SourceError::Setup)?;
        let bell = Bell::new();
        let names = config.topics.iter().map(|topic| topic.as_str().into()).collect();
        let scout = Scout::start(&config, names, status.end_of_log().clone(), bell.clone())?;
        let commits = Commits::start(properties::committer(&config))
            .map_err(|error| SourceError::Setup(format!("could not start the thread that commits: {error}")))?;
        let checker = Checker::start(properties::checker(&config), bell.clone()).map_err(|error| {
            SourceError::Setup(format!("could not start the thread that looks at the log: {error}"))
        })?;
        let beats = Some(&config.heartbeat_topic).filter(|topic| !topic.is_empty()).map(|topic| {
            heartbeats::listen(properties::heartbeats(&config), topic, config.discovery_interval, status.clone())
        });
        let heartbeats = beats.transpose().map_err(|error| {
            SourceError::Setup(format!("could not start the thread that listens to heartbeats: {error}"))
        })?;
        // What is said to have been read above the position was not, as far as this state goes.
        let identity = IdentityHandle::new(config.known.known_below(&config.resume));
        let silence_max = properties::silence_max(&config);
        Ok(Self {
            config,
            bell,
            scout,
            listener: Listener::default(),
            consumer: None,
            partitions: Vec::new(),
            found: Vec::new(),
            answered: BTreeSet::new(),
            known: BTreeSet::new(),
            topics,
            turn: 0,
            rewinds: Vec::new(),
            halted: false,
            another_log: None,
            commits,
            checker,
            heartbeats,
            identity,
            shown: Shown::new(status, silence_max),
        })
    }

    /// Everything but reading: what the scout and the client say, and what follows from it.
    fn serve(&mut self) -> Result<(), SourceError> {
        let news: Vec<News> = self.scout.news().collect();
        for news in news {
            self.hear(news)?;
        }
        self.serve_client()?;
        self.serve_checker();
        if !self.halted {
            self.ask_for_watermarks(Instant::now())?;
            self.ask_for_evidence(Instant::now())?;
        }
        Ok(())
    }

    fn hear(&mut self, news: News) -> Result<(), SourceError> {
        match news {
            News::Cluster { id } => self.on_cluster(&id),
            News::Partitions { topic, numbers } => {
                self.shown.on_topic_well(&topic);
                let count = numbers.len();
                for number in numbers {
                    let is_known = |known: &Partition| known.topic == topic && known.number == number;
                    let waits = self.found.iter().any(|(name, found)| *name == topic && *found == number);
                    if !waits && !self.partitions.iter().any(is_known) {
                        self.found.push((Arc::clone(&topic), number));
                    }
                }
                self.answered.insert(Arc::clone(&topic));
                self.assign_found()?;
                self.on_partition_count(&topic, count);
            }
            News::TopicTrouble { topic, phase, reason } => {
                if phase == Phase::Missing {
                    self.on_topic_missing(&topic);
                }
                self.shown.on_topic_trouble(&topic, phase, reason);
                self.answered.insert(topic);
                self.assign_found()?;
            }
            News::Trouble(complaint) => self.shown.on_trouble(complaint, Instant::now()),
            News::Watermarks { ask, answer } => self.on_watermarks(&ask, answer),
        }
        Ok(())
    }

    /// Assigns partitions that are not yet, once every topic has been asked about.
    fn assign_found(&mut self) -> Result<(), SourceError> {
        if self.halted || self.found.is_empty() || self.answered.len() < self.config.topics.len() {
            return Ok(());
        }
        let consumer = match &self.consumer {
            Some(consumer) => Arc::clone(consumer),
            None => self.make_consumer()?,
        };
        let (mut list, now) = (TopicPartitionList::new(), Instant::now());
        let mut new = Vec::new();
        for (topic, number) in std::mem::take(&mut self.found) {
            let id = self.topics.intern(&topic).ok_or_else(|| SourceError::Setup("too many topics".to_owned()))?;
            let next = self.config.resume.next_offset(&topic, number);
            let mut partition = Partition::new(Arc::clone(&topic), id, number, next, now);
            partition.counts_for_ready = !self.all_known();
            if next.is_some() && self.config.known.topics.contains_key(&topic) {
                tracing::info!(topic = &*topic, partition = number, next, "comparing a log with the one that was read");
                partition.wait_for_check(now);
            } else {
                split_off(&consumer, &self.bell, &mut partition)?;
                list.add_partition_offset(&topic, number, next.map_or(Offset::Beginning, Offset::Offset))
                    .map_err(setup)?;
                tracing::info!(topic = &*topic, partition = number, next, "reading a partition");
            }
            new.push(partition);
        }
        if let Err(error) = consumer.incremental_assign(&list) {
            for partition in new.iter_mut().filter(|partition| partition.queue.is_some()) {
                partition.on_not_assigned(format!("could not be assigned: {error}"), now);
            }
        }
        // After the loop: all partitions of a topic that was not known are as old as each other.
        self.known.extend(new.iter().map(|partition| Arc::clone(&partition.topic)));
        self.partitions.append(&mut new);
        self.partitions.sort_by(|a, b| (&a.topic, a.number).cmp(&(&b.topic, b.number)));
        self.shown.touch();
        Ok(())
    }

    /// Whether partitions of every topic have been seen.
    fn all_known(&self) -> bool {
        self.known.len() == self.config.topics.len()
    }

    fn make_consumer(&mut self) -> Result<Arc<BaseConsumer<Listener>>, SourceError> {
        let mut consumer: BaseConsumer<Listener> = properties::reader(&self.config, self.found.len())
            .create_with_context(self.listener.clone())
            .map_err(|error| SourceError::Setup(error.to_string()))?;
        let bell = self.bell.clone();
        consumer.set_nonempty_callback(move || bell.ring());
        let consumer = Arc::new(consumer);
        self.consumer = Some(Arc::clone(&consumer));
        Ok(consumer)
    }

    /// Statistics, and errors of no partition.
    fn serve_client(&mut self) -> Result<(), SourceError> {
        let Some(consumer) = self.consumer.clone() else { return Ok(()) };
        for _ in 0..EVENTS_MAX {
            let before = self.listener.with(|told| told.calls);
            match consumer.poll(Duration::ZERO) {
                Some(Err(error)) => {
                    let complaint = self.listener.complaint(&error);
                    intake::refuse_fatal(&error, &complaint.reason)?;
                    self.shown.on_trouble(complaint, Instant::now());
                }
                // Queues are split off before anything is fetched. To pass over it would be to skip it in silence.
                Some(Ok(message)) => {
                    let at = (message.topic(), message.partition(), message.offset());
                    return Err(SourceError::Setup(format!("{at:?} came out of no partition's queue")));
                }
                None if self.listener.with(|told| told.calls) == before => break,
                None => {}
            }
        }
        if self.listener.with(|told| std::mem::take(&mut told.another_cluster)) {
            self.want_checks(|_| true);
        }
        if let Some(statistics) = self.listener.with(|told| told.statistics.take()) {
            self.shown.on_statistics(&statistics, &mut self.partitions, self.halted);
        }
        Ok(())
    }

    fn ask_for_watermarks(&mut self, now: Instant) -> Result<(), SourceError> {
        for partition in &mut self.partitions {
            if partition.takes_a_look(now) {
                let ask =
                    Ask { topic: Arc::clone(&partition.topic), partition: partition.number, next: partition.next };
                if !self.scout.ask(ask) {
                    return Err(SourceError::Setup("the thread that asks the cluster has ended".to_owned()));
                }
            }
        }
        Ok(())
    }

    fn on_watermarks(&mut self, ask: &Ask, answer: Watermarks) {
        let now = Instant::now();
        let position = |known: &Partition| known.topic == ask.topic && known.number == ask.partition;
        let Some(index) = self.partitions.iter().position(position) else { return };
        if self.halted {
            return;
        }
        self.shown.touch();
        let can_be_compared = self.has_fingerprints(index);
        let partition = &mut self.partitions[index];
        match answer {
            Err((code, reason)) => partition.on_watermarks_unknown(code, &reason, now),
            Ok((low, high)) => match partition.on_watermarks(low, high, ask.next, now) {
                Verdict::Fine => {}
                // The check goes on from there when it has passed.
                Verdict::ReadFrom(_) if partition.check.is_open() => {}
                Verdict::ReadFrom(offset) if partition.is_damaged() || !can_be_compared => {
                    self.assign_anew(index, offset);
                }
                Verdict::ReadFrom(_) => drop(partition.check.want(now)),
                Verdict::Lost { next, low, high } if (low..=high).contains(&next) => {
                    let detail =
                        format!("offset {next} is next, and the log, which has {low} to {high}, was cut before it");
                    partition.check.suspect(Finding { fault: IdentityFault::Truncated, detail }, now);
                }
                Verdict::Lost { .. } => drop(partition.check.want(now)),
                Verdict::Corrupt => {
                    let reason = partition.state().last_error.unwrap_or_default();
                    self.halt(index, Phase::Corrupt, reason);
                }
            },
        }
    }

    /// Has librdkafka read a partition that it has given up.
    fn assign_anew(&mut self, index: usize, offset: i64) {
        let (Some(consumer), now) = (&self.consumer, Instant::now()) else { return };
        let partition = &mut self.partitions[index];
        tracing::info!(topic = &*partition.topic, partition = partition.number, offset, "reading a partition on");
        if partition.queue.is_none() {
            // The first time.
            if let Err(error) = split_off(consumer, &self.bell, partition) {
                return partition.on_not_assigned(error.to_string(), now);
            }
        } else if let Err(error) =
            one_partition(partition, Offset::Invalid).and_then(|list| consumer.incremental_unassign(&list))
        {
            // It may never have been; if it is still, it cannot be assigned either, and that is tried again.
            tracing::debug!(%error, "a partition could not be given back");
        }
        let assigned =
            one_partition(partition, Offset::Offset(offset)).and_then(|list| consumer.incremental_assign(&list));
        match assigned {
            Ok(()) => partition.on_assigned(now),
            Err(error) => partition.on_not_assigned(format!("could not be assigned: {error}"), now),
        }
    }

    /// Takes what the partitions' queues hold, each from where the last poll left off.
    fn read(&mut self, batch: &mut RecordBatch, limit: Limit) -> Result<(), SourceError> {
        let count = self.partitions.len();
        for step in 0..count {
            if limit.reached(batch) {
                break;
            }
            let index = (self.turn + step) % count;
            let partition = &mut self.partitions[index];
            // Taken out while its records, which borrow from it, are made known to the partition.
            let Some(queue) = partition.queue.take_if(|_| !partition.check.is_open()) else { continue };
            let result = intake::take(partition, &queue, &self.listener, &mut self.shown, batch, limit);
            partition.queue = Some(queue);
            if let Some(last) = result? {
                self.identity.on_read(&partition.topic, partition.number, partition.start(), last);
            }
        }
        self.turn = (self.turn + 1) % count.max(1);
        Ok(())
    }
}

/// Gives a partition its own queue: it then gets everything, and survives being assigned anew.
fn split_off(
    consumer: &Arc<BaseConsumer<Listener>>,
    bell: &Bell,
    partition: &mut Partition,
) -> Result<(), SourceError> {
    let (topic, number) = (&*partition.topic, partition.number);
    let no_queue = || SourceError::Setup(format!("{topic} [{number}] has no queue"));
    let mut queue = consumer.split_partition_queue(topic, number).ok_or_else(no_queue)?;
    let bell = bell.clone();
    queue.set_nonempty_callback(move || bell.ring());
    partition.queue = Some(queue);
    Ok(())
}

fn one_partition(partition: &Partition, offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&partition.topic, partition.number, offset)?;
    Ok(list)
}

fn setup(error: KafkaError) -> SourceError {
    SourceError::Setup(error.to_string())
}

impl Source for KafkaSource {
    fn poll(&mut self, batch: &mut RecordBatch, wait: Duration, limit: Limit) -> Result<Polled, SourceError> {
        self.serve()?;
        self.read(batch, limit)?;
        if batch.is_empty() && !wait.is_zero() {
            self.bell.wait(wait);
            self.serve()?;
            self.read(batch, limit)?;
        }
        if !batch.is_empty() {
            self.shown.on_records();
        }
        let complete = self.all_known() && self.found.is_empty();
        self.shown.on_commits_failed(self.commits.failed());
        self.shown.show(&self.partitions, complete);
        if let Some(why) = self.another_log.take() {
            return Err(SourceError::AnotherLog(why));
        }
        Ok(if batch.is_empty() { Polled::Nothing } else { Polled::Records })
    }

    fn note_ends(&mut self, position: &mut Position) {
        for partition in &mut self.partitions {
            if let Some(end) = partition.end_to_note.take() {
                position.advance(&partition.topic, partition.number, end);
            }
        }
    }

    fn take_rewinds(&mut self) -> Vec<Rewound> {
        std::mem::take(&mut self.rewinds)
    }

    fn identity(&self) -> IdentityHandle {
        self.identity.clone()
    }

    fn commit(&mut self, position: &Position) {
        // Without a cluster it would only keep a newer one waiting.
        if self.shown.is_reading() {
            self.commits.offer(position);
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        // All clients end at the same time; the queues go before the consumer that they belong to. This one has
        // nothing on its way that its end would wait for.
        self.scout.begin_stop();
        self.commits.begin_stop();
        self.checker.begin_stop();
        if let Some(heartbeats) = &mut self.heartbeats {
            heartbeats.begin_stop();
        }
        self.partitions.clear();
        self.consumer = None;
    }
}
