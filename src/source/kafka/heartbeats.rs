//! The heartbeats of the pipeline before Kafka: when the newest one was written.
//!
//! Debezium writes one now and then to a topic of its own, also while nothing is reported. Where it stops over a record that
//! it cannot write they end, and nothing else tells that from a quiet time. In: that topic. Out: the time of its newest
//! record, in the [`SourceStatus`]. Promises: reading the log rests on nothing of this, which has a client and a thread of
//! its own; a topic that is missing, made anew or forbidden is looked for again and again. Not here: how old is too old.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::ending::Beside;
use super::listener::Listener;
use crate::clock::now_ms;
use crate::source::{Heartbeats as Told, SourceStatus};

/// How long one question may take, and one wait for a record.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How soon the thread ends.
const LOOK: Duration = Duration::from_millis(100);

/// Starts the thread; the topic is looked for at every interval.
pub(super) fn listen(
    config: ClientConfig,
    topic: &str,
    interval: Duration,
    status: SourceStatus,
) -> std::io::Result<Beside> {
    let topic: Arc<str> = topic.into();
    let told = Told { topic: Arc::clone(&topic), newest_ms: None };
    status.update(|state| {
        state.heartbeats.get_or_insert(told);
    });
    Beside::start("tarn-kafka-beats", ANSWER_WITHIN, move |stop| {
        Errand { config, topic, interval, status, stop }.run();
    })
}

/// The thread, from inside.
struct Errand {
    config: ClientConfig,
    topic: Arc<str>,
    interval: Duration,
    status: SourceStatus,
    stop: Arc<AtomicBool>,
}

impl Errand {
    fn run(&self) {
        let listener = Listener::default();
        let client = match self.config.create_with_context(listener.clone()) {
            Ok(client) => client,
            Err(error) => return tracing::warn!(%error, "heartbeats are not listened to"),
        };
        let (mut next_look, mut heard) = (Instant::now(), BTreeMap::new());
        while !self.stop.load(Ordering::Acquire) {
            if Instant::now() >= next_look {
                // The last record is read once more each time, and a topic that was made anew is met at its end.
                if let Err(error) = self.assign(&client) {
                    tracing::debug!(%error, topic = &*self.topic, "heartbeats are not found");
                }
                next_look = Instant::now() + self.interval;
            }
            match client.poll(LOOK) {
                // The last one is read again and again.
                Some(Ok(record)) if heard.insert(record.partition(), record.offset()) != Some(record.offset()) => {
                    self.note(record.timestamp().to_millis());
                }
                Some(Ok(_)) => {}
                // The other clients tell of the same troubles aloud.
                Some(Err(error)) => tracing::debug!(error = listener.describe(&error), "heartbeats do not come"),
                None => {}
            }
        }
    }

    /// Has the last record of every partition read, and those that come after it.
    fn assign(&self, client: &BaseConsumer<Listener>) -> KafkaResult<()> {
        let metadata = client.fetch_metadata(Some(&self.topic), ANSWER_WITHIN)?;
        let mut last = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            last.add_partition_offset(&self.topic, partition.id(), Offset::OffsetTail(1))?;
        }
        client.assign(&last)
    }

    fn note(&self, written_ms: Option<i64>) {
        let Some(written_ms) = written_ms.and_then(|written_ms| u64::try_from(written_ms).ok()) else { return };
        // By a clock that is ahead none would be old for as long as that is.
        let written_ms = written_ms.min(now_ms());
        let is_newer = |newest_ms: Option<u64>| newest_ms.is_none_or(|newest_ms| newest_ms < written_ms);
        // Looked at first: a change makes others read the whole state again.
        if self.status.look(|state| state.heartbeats.as_ref().is_some_and(|told| is_newer(told.newest_ms))) {
            self.status.update(|state| {
                if let Some(told) = &mut state.heartbeats {
                    told.newest_ms = Some(written_ms);
                }
            });
        }
    }
}
