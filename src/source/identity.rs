//! What tells a log from another one: its cluster, its partitions, where it begins, and fingerprints of what was read.
//!
//! In: what a source reads and what a cluster says of itself. Out: a [`LogIdentity`], plain data to be kept with a
//! snapshot and given back at the next start; and, in [`verdict`], whether a log that is found is still that one.
//! Promises: an identity for a position names only records below it; it is small however much was read (three
//! fingerprints a partition, 32 while reading); a fingerprint costs one hash a poll and partition, not one a record.
//! Not here: asking a cluster, and what is done about a log that is another one (`kafka`).

pub mod verdict;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::model::Position;

/// So many fingerprints of a partition are held while reading, so that some lie below any position asked for.
const TRAIL_MAX: usize = 32;

/// The second fingerprint of a stored partition is at least so much older than the first: far enough that what damages
/// the end of a log spares it.
const APART_RECORDS: i64 = 10_000;
const APART_MS: i64 = 60_000;

/// A record that was read: enough to know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Where it stands.
    pub offset: i64,
    /// Its timestamp, ms since 1970; -1 where it has none.
    pub timestamp_ms: i64,
    /// What [`checksum`] makes of its key and value.
    pub checksum: u64,
}

/// What is known of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionIdentity {
    /// Where the log began, when that was last heard.
    pub start_offset: Option<i64>,
    /// Records that were read, in order of their offsets.
    pub fingerprints: Vec<Fingerprint>,
}

/// What is known of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicIdentity {
    /// How many partitions it has; a topic that is the same one never has fewer.
    pub partition_count: Option<u32>,
    /// Those of which anything is known.
    pub partitions: BTreeMap<i32, PartitionIdentity>,
}

/// What is known of a log; empty when nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIdentity {
    /// The cluster's own id, where it tells one.
    pub cluster_id: Option<String>,
    /// The topics by name.
    pub topics: BTreeMap<Arc<str>, TopicIdentity>,
}

impl LogIdentity {
    /// The identity for a state that has read up to `position`: up to three fingerprints of every partition, all below.
    pub fn known_below(&self, position: &Position) -> Self {
        let partition = |topic: &str, number: i32, known: &PartitionIdentity| PartitionIdentity {
            start_offset: known.start_offset,
            fingerprints: match position.next_offset(topic, number) {
                Some(next) => chosen(&known.fingerprints, next),
                None => Vec::new(),
            },
        };
        let topics = self.topics.iter().map(|(name, topic)| {
            let partitions = topic.partitions.iter().map(|(number, known)| (*number, partition(name, *number, known)));
            let kept = TopicIdentity { partition_count: topic.partition_count, partitions: partitions.collect() };
            (Arc::clone(name), kept)
        });
        Self { cluster_id: self.cluster_id.clone(), topics: topics.collect() }
    }

    /// How many partitions a topic had.
    pub fn partition_count(&self, topic: &str) -> Option<u32> {
        self.topics.get(topic)?.partition_count
    }

    /// The fingerprints of a partition.
    pub fn fingerprints(&self, topic: &str, partition: i32) -> &[Fingerprint] {
        let known = self.topics.get(topic).and_then(|topic| topic.partitions.get(&partition));
        known.map_or(&[], |known| &known.fingerprints)
    }

    fn partition(&mut self, topic: &Arc<str>, partition: i32) -> &mut PartitionIdentity {
        self.topics.entry(Arc::clone(topic)).or_default().partitions.entry(partition).or_default()
    }
}

/// The last one below `next`, one well before it, and the oldest.
fn chosen(trail: &[Fingerprint], next: i64) -> Vec<Fingerprint> {
    let below = &trail[..trail.partition_point(|one| one.offset < next)];
    let Some((last, older)) = below.split_last() else { return Vec::new() };
    let is_apart = |one: &&Fingerprint| {
        one.offset <= last.offset - APART_RECORDS
            || (one.timestamp_ms > 0 && one.timestamp_ms <= last.timestamp_ms.saturating_sub(APART_MS))
    };
    let mut chosen = vec![*last];
    chosen.extend(older.iter().rev().find(is_apart));
    chosen.extend(older.first());
    chosen.reverse();
    chosen.dedup();
    chosen
}

impl PartitionIdentity {
    /// A record was read.
    fn read(&mut self, fingerprint: Fingerprint) {
        // The partition went back: what stands from here on was of a log that is no more.
        self.fingerprints.truncate(self.fingerprints.partition_point(|one| one.offset < fingerprint.offset));
        self.fingerprints.push(fingerprint);
        if self.fingerprints.len() > TRAIL_MAX {
            self.thin(fingerprint.offset);
        }
    }

    /// Lets the fingerprint go that is missed least: they are the further apart the further back they lie, so that for
    /// any position there is one not much before it.
    fn thin(&mut self, head: i64) {
        let weight = |around: &[Fingerprint]| {
            let gap = (around[2].offset - around[0].offset) as f64;
            gap / (head - around[1].offset + 1) as f64
        };
        let weights = self.fingerprints.windows(3).map(weight).enumerate();
        if let Some((index, _)) = weights.min_by(|(_, a), (_, b)| a.total_cmp(b)) {
            self.fingerprints.remove(index + 1);
        }
    }

    /// The log begins here now; what lies before can no longer be compared.
    fn begins_at(&mut self, start: i64) {
        self.start_offset = Some(start);
        let gone = self.fingerprints.partition_point(|one| one.offset < start);
        self.fingerprints.drain(..gone);
    }
}

/// The identity of the log that is being read, shared between its source, which writes it, and whoever keeps it.
#[derive(Debug, Clone, Default)]
pub struct IdentityHandle {
    known: Arc<Mutex<LogIdentity>>,
    /// How often it became that of another log.
    others: Arc<AtomicU64>,
}

impl IdentityHandle {
    /// Begins with what is known from before.
    pub(super) fn new(known: LogIdentity) -> Self {
        Self { known: Arc::new(Mutex::new(known)), others: Arc::default() }
    }

    /// All that is known now.
    pub fn get(&self) -> LogIdentity {
        self.with(|identity| identity.clone())
    }

    /// How often a partition turned out to be of another log, which is read on (policy `continue`).
    pub fn others(&self) -> u64 {
        self.others.load(Ordering::Acquire)
    }

    /// What belongs to a state that has read up to `position` of the log as it is now. Under the policy `continue` a log
    /// may become another one; a position from before its rewind does not go with the identity from behind it.
    pub fn known_below(&self, position: &Position) -> LogIdentity {
        self.with(|identity| identity.known_below(position))
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut LogIdentity) -> T) -> T {
        change(&mut self.known.lock().expect("no holder of the log's identity panics"))
    }

    /// A record was read, of a log that begins at `start` as far as is known.
    pub(super) fn on_read(&self, topic: &Arc<str>, partition: i32, start: Option<i64>, fingerprint: Fingerprint) {
        self.with(|identity| {
            let known = identity.partition(topic, partition);
            if let Some(start) = start.filter(|start| known.start_offset != Some(*start)) {
                known.begins_at(start);
            }
            known.read(fingerprint);
        });
    }

    /// The cluster named itself.
    pub(super) fn on_cluster(&self, cluster_id: &str) {
        self.with(|identity| identity.cluster_id = Some(cluster_id.to_owned()));
    }

    /// A topic has so many partitions.
    pub(super) fn on_topic(&self, topic: &Arc<str>, partition_count: u32) {
        self.with(|identity| {
            let known = identity.topics.entry(Arc::clone(topic)).or_default();
            known.partition_count = known.partition_count.max(Some(partition_count));
        });
    }

    /// The log is the one that was known.
    pub(super) fn on_same(&self, topic: &Arc<str>, partition: i32, observed: &verdict::Observed) {
        self.with(|identity| {
            if observed.cluster_id.is_some() {
                identity.cluster_id.clone_from(&observed.cluster_id);
            }
            identity.partition(topic, partition).begins_at(observed.start);
            identity.topics.entry(Arc::clone(topic)).or_default().partition_count = Some(observed.partition_count);
        });
    }

    /// The log is another one, and is read from its start: nothing of the former one counts any more.
    pub(super) fn on_another(&self, topic: &Arc<str>, partition: i32, observed: &verdict::Observed) {
        self.others.fetch_add(1, Ordering::Release);
        self.with(|identity| *identity.partition(topic, partition) = PartitionIdentity::default());
        self.on_same(topic, partition, observed);
        // Partitions that are no more.
        self.with(|identity| {
            let known = identity.topics.entry(Arc::clone(topic)).or_default();
            known.partitions.retain(|number, _| u32::try_from(*number).is_ok_and(|n| n < observed.partition_count));
        });
    }
}

/// A hash of a record's key and value: null is not empty, and no byte can wander from one to the other.
pub fn checksum(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hasher = Xxh3::new();
    for part in [key, value] {
        match part {
            None => hasher.update(&[0]),
            Some(bytes) => {
                hasher.update(&[1]);
                hasher.update(&(bytes.len() as u64).to_le_bytes());
                hasher.update(bytes);
            }
        }
    }
    hasher.digest()
}

#[cfg(test)]
mod tests;
