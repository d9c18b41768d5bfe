//! What was counted on the way, the ids of the last records, and the last events that changed nothing.
//!
//! Plain atomics that any thread may read; `/metrics` and `/status` show them. Nothing is dropped without adding to one.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::event_ids::EventIds;
use super::resubmission::Outcomes;
use crate::histogram::Histogram;
use crate::model::{Anomaly, Applied, Ignored, IgnoredReason, RejectReason, SkipReason};

/// How many ignored events are kept for people to look at.
pub const IGNORED_KEPT: usize = 1_000;

/// Counters since the process began.
#[derive(Debug)]
pub struct Counters {
    applied: [AtomicU64; Applied::ALL.len()],
    ignored: [AtomicU64; IgnoredReason::ALL.len()],
    skipped: [AtomicU64; SkipReason::ALL.len()],
    anomalies: [AtomicU64; Anomaly::ALL.len()],
    rejected: [AtomicU64; RejectReason::ALL.len()],
    /// Records polled from the source.
    pub records: AtomicU64,
    /// Bytes polled from the source.
    pub record_bytes: AtomicU64,
    /// Ids forgotten although within the tolerance.
    pub let_go_within_tolerance: AtomicU64,
    /// Rejects whose header id was in the quarantine before.
    pub rejected_again: AtomicU64,
    /// Quarantine entries pushed out by newer ones.
    pub quarantine_evicted: AtomicU64,
    /// Quarantine entries that later events cleared.
    pub quarantine_cleared: AtomicU64,
    /// Tombstones that were forgotten when their time was over.
    pub tombstones_expired: AtomicU64,
    /// Epochs sealed.
    pub epochs_sealed: AtomicU64,
    /// What became of records that were read again out of the quarantine.
    pub resubmitted: Outcomes,
    /// Where the time of events goes.
    pub stages: Stages,
    /// The header ids of the last records.
    pub event_ids: EventIds,
}

/// How long events take up to the arrangements of tables; what comes after that the publisher knows.
#[derive(Debug, Default)]
pub struct Stages {
    /// From the first record of an epoch until it is sealed.
    pub poll: Histogram,
    /// Decoding a batch of records on a worker.
    pub decode: Histogram,
    /// Folding an epoch's events on a worker.
    pub fold: Histogram,
}

impl Default for Counters {
    fn default() -> Self {
        let zeros = || [const { AtomicU64::new(0) }; RejectReason::ALL.len()];
        Self {
            applied: Default::default(),
            ignored: Default::default(),
            skipped: Default::default(),
            anomalies: Default::default(),
            rejected: zeros(),
            records: AtomicU64::new(0),
            record_bytes: AtomicU64::new(0),
            let_go_within_tolerance: AtomicU64::new(0),
            rejected_again: AtomicU64::new(0),
            quarantine_evicted: AtomicU64::new(0),
            quarantine_cleared: AtomicU64::new(0),
            tombstones_expired: AtomicU64::new(0),
            epochs_sealed: AtomicU64::new(0),
            resubmitted: Outcomes::default(),
            stages: Stages::default(),
            event_ids: EventIds::default(),
        }
    }
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Reads a counter.
pub fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counters {
    /// The counter of an outcome.
    pub fn applied(&self, applied: Applied) -> &AtomicU64 {
        &self.applied[applied as usize]
    }

    /// The counter of a reason to ignore.
    pub fn ignored(&self, reason: IgnoredReason) -> &AtomicU64 {
        &self.ignored[reason as usize]
    }

    /// The counter of a reason to skip.
    pub fn skipped(&self, reason: SkipReason) -> &AtomicU64 {
        &self.skipped[reason as usize]
    }

    /// The counter of an anomaly.
    pub fn anomaly(&self, anomaly: Anomaly) -> &AtomicU64 {
        &self.anomalies[anomaly as usize]
    }

    /// The counter of a reason to reject.
    pub fn rejected(&self, reason: RejectReason) -> &AtomicU64 {
        &self.rejected[reason as usize]
    }

    /// Every labelled counter: family, label, count.
    pub fn labelled(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut all = Vec::new();
        all.extend(Applied::ALL.map(|applied| ("applied", applied.as_str(), read(self.applied(applied)))));
        all.extend(IgnoredReason::ALL.map(|reason| ("ignored", reason.as_str(), read(self.ignored(reason)))));
        all.extend(SkipReason::ALL.map(|reason| ("skipped", reason.as_str(), read(self.skipped(reason)))));
        all.extend(Anomaly::ALL.map(|anomaly| ("anomaly", anomaly.as_str(), read(self.anomaly(anomaly)))));
        all.extend(self.resubmitted.counts().map(|(outcome, count)| ("resubmitted", outcome, count)));
        all.extend(RejectReason::ALL.iter().map(|reason| ("rejected", reason.as_str(), read(self.rejected(*reason)))));
        all
    }
}

/// The last events that changed nothing.
#[derive(Debug, Default)]
pub struct IgnoredLog(Mutex<VecDeque<Ignored>>);

impl IgnoredLog {
    /// Notes the events of an epoch; of more than are kept, the last.
    pub fn note(&self, ignored: Vec<Ignored>) {
        if ignored.is_empty() {
            return;
        }
        let mut log = self.0.lock().expect("no holder of the ignored log panics");
        let passed_over = ignored.len().saturating_sub(IGNORED_KEPT);
        log.extend(ignored.into_iter().skip(passed_over));
        let excess = log.len().saturating_sub(IGNORED_KEPT);
        log.drain(..excess);
    }

    /// The kept ones, newest first.
    pub fn newest_first(&self) -> Vec<Ignored> {
        self.0.lock().expect("no holder of the ignored log panics").iter().rev().cloned().collect()
    }
}
