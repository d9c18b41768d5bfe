//! Sources: where records come from. Bytes with coordinates in, batches of them out; nothing here parses a value.
//!
//! A source says what it has read ([`RecordBatch`]), how far that takes each partition, and how it is doing
//! ([`SourceStatus`]). Kafka ([`kafka`]), a log in the shape of `kcat -C -J` ([`log_file`]) and the generator are the
//! three there are. To add one: implement [`Source`], add a variant to the configuration, one arm in `service`.
//! Not here: epochs and backpressure (`dataflow::ingest` decides when to poll), decoding (`decode`).

pub mod end_of_log;
pub mod identity;
pub mod kafka;
pub mod line;
pub mod log_file;
mod record;
pub mod resubmitted;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use crate::model::Position;

use self::end_of_log::EndOfLog;
use self::identity::IdentityHandle;
use self::identity::verdict::IdentityFault;

pub use record::{BufferPool, Content, HeaderSpan, Record, RecordBatch, Span, Wire};

/// What one poll brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// Records were added to the batch.
    Records,
    /// Nothing now; there may be more later.
    Nothing,
    /// The source has ended and will bring no more.
    End,
}

/// How much one poll may bring.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// About this many bytes.
    pub bytes: usize,
    /// At most this many records.
    pub records: usize,
    /// Timestamps of the records at most this far apart, ms, where the log is its own clock.
    pub span_ms: Option<u64>,
}

impl Limit {
    /// Whether `batch` has reached it.
    pub fn reached(&self, batch: &RecordBatch) -> bool {
        batch.bytes() >= self.bytes || batch.len() >= self.records
    }

    /// Whether a record is too far from the first one in time, both ms since 1970.
    pub fn is_passed_by(&self, first_ms: Option<u64>, timestamp_ms: Option<u64>) -> bool {
        match (self.span_ms, first_ms, timestamp_ms) {
            (Some(span_ms), Some(first_ms), Some(timestamp_ms)) => timestamp_ms > first_ms.saturating_add(span_ms),
            _ => false,
        }
    }
}

/// Something that brings records.
pub trait Source: Send {
    /// Appends what there is to `batch`, waiting at most `wait` for the first record and stopping at `limit`.
    fn poll(&mut self, batch: &mut RecordBatch, wait: Duration, limit: Limit) -> Result<Polled, SourceError>;

    /// Moves `position` past what holds no records for us (control records, compaction gaps at the end of the log).
    /// Asked for after the records of the last poll are taken; never moves it past a record that was not handed over.
    fn note_ends(&mut self, _position: &mut Position) {}

    /// Partitions that are read on from another offset than the next, because the log was cut, made anew, or lost what was
    /// to be read. Asked for after every poll and before its records are taken: those of such a partition were all read
    /// after it.
    fn take_rewinds(&mut self) -> Vec<Rewound> {
        Vec::new()
    }

    /// Whether another reading of the same log brings all its records in the same order, across partitions too.
    fn has_reproducible_order(&self) -> bool {
        false
    }

    /// What tells this log from another one, kept up to date while reading; stays empty where a source has none.
    fn identity(&self) -> IdentityHandle {
        IdentityHandle::default()
    }

    /// Tells the outside how far reading has come, for lag tools only; never read back.
    fn commit(&mut self, _position: &Position) {}
}

/// A partition whose log is another one, or has lost what was to be read next: it is read on from another offset, below
/// what was read or beyond it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewound {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The next offset.
    pub to: i64,
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file could not be read.
    #[error("could not read the log {path}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The log is not the one that was read, or lacks what was to be read next, and the state is to be made anew from it
    /// (policy `rebuild`). Every record that is handed over before is of the log that was read.
    #[error("the log is not the one that was read: {0}")]
    AnotherLog(String),
    /// The Kafka client could not be made from its configuration.
    #[error("could not set up the Kafka consumer: {0}")]
    Setup(String),
}

/// How a source or a partition is doing, in words that `/status` shows; a later one is worse. A source is doing as its
/// worst partition does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The source has ended.
    Ended,
    /// Reading.
    Reading,
    /// No broker has answered yet.
    Connecting,
    /// Reading was broken off, and is to go on where it was.
    Recovering,
    /// Its log is being compared with what is known of the one that was read.
    Checking,
    /// It was connected, and is not now.
    Disconnected,
    /// There is no leader to read from.
    Leaderless,
    /// The cluster does not know it.
    Missing,
    /// Reading is not allowed.
    Forbidden,
    /// It could be read; reading has stopped because of another partition.
    Stopped,
    /// The next record is damaged; reading has stopped.
    Corrupt,
    /// The log no longer has the position that was to be read, or is another log; reading has stopped (policy `halt`).
    PositionLost,
}

impl Phase {
    /// Its name over HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Reading => "reading",
            Self::Connecting => "connecting",
            Self::Recovering => "recovering",
            Self::Checking => "checking",
            Self::Disconnected => "disconnected",
            Self::Leaderless => "leaderless",
            Self::Missing => "missing",
            Self::Forbidden => "forbidden",
            Self::Stopped => "stopped",
            Self::Corrupt => "corrupt",
            Self::PositionLost => "positionLost",
        }
    }

    /// Whether records that there are do not come.
    pub fn is_trouble(self) -> bool {
        self > Self::Reading
    }
}

/// How a partition is doing.
#[derive(Debug, Clone)]
pub struct PartitionState {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// What it is doing.
    pub phase: Phase,
    /// The next offset to be read, when the state was last told; none before anything was read.
    pub next_offset: Option<i64>,
    /// The first offset that the log still has, as last heard.
    pub start_offset: Option<i64>,
    /// The end of what can be read, as last heard.
    pub end_offset: Option<i64>,
    /// So many offsets behind the end wait for a transaction to end.
    pub held_by_transaction: i64,
    /// What went wrong last, none when nothing has since something was read.
    pub last_error: Option<String>,
    /// What was wrong with its log when it was last found to be another one, or without the next offset.
    pub identity_fault: Option<IdentityFault>,
}

/// A topic that cannot be read.
#[derive(Debug, Clone)]
pub struct TopicTrouble {
    /// What is wrong.
    pub phase: Phase,
    /// What the cluster said.
    pub reason: String,
}

/// A snapshot of how a source is doing.
#[derive(Debug, Clone)]
pub struct SourceState {
    /// What it is doing.
    pub phase: Phase,
    /// When the log was last heard of, ms since 1970; 0 for never.
    pub last_heard_ms: u64,
    /// The end of the log as it was seen at start; ready means to have reached it. None while not known.
    pub end_at_start: Option<Position>,
    /// The end of the log as last heard.
    pub end: Position,
    /// Every partition, where a source has several.
    pub partitions: Vec<PartitionState>,
    /// Topics that were asked for and cannot be read, by name.
    pub troubles: BTreeMap<Arc<str>, TopicTrouble>,
    /// How often a log was found to be another one, or without the next offset; a count a partition.
    pub identity_faults: BTreeMap<IdentityFault, u64>,
    /// How many commits for lag tools failed.
    pub commits_failed: u64,
    /// What went wrong last, none when nothing has since it went well.
    pub last_error: Option<String>,
    /// Since when answers lack events that the log lost before they were read, ms since 1970 (policies `continue` and,
    /// while it is at it, `rebuild`).
    pub incomplete_since_ms: Option<u64>,
    /// How the state is made anew, and was.
    pub rebuilds: Rebuilds,
    /// Whether the pipeline before the log is alive; none where it is not listened to.
    pub heartbeats: Option<Heartbeats>,
}

/// What the pipeline before the log writes now and then, whether or not anything happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeats {
    /// The topic that they are written to.
    pub topic: Arc<str>,
    /// When the newest was written, ms since 1970; none while none is known.
    pub newest_ms: Option<u64>,
}

/// How the state is made anew from a log that turned out to be another one (policy `rebuild`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilds {
    /// Since when it is, ms since 1970; none while what is shown is what is read.
    pub running_since_ms: Option<u64>,
    /// How often it was, and is shown.
    pub finished: u64,
    /// Live resources that were shown before and that the log no longer mentions as such.
    pub gone: u64,
}

impl SourceState {
    /// Nothing is known of the log yet; what was lost, counted and rebuilt stays.
    pub fn begin_anew(&mut self) {
        (self.phase, self.end_at_start, self.last_error) = (Phase::Connecting, None, None);
        self.end = Position::default();
        self.partitions.clear();
        self.troubles.clear();
    }
}

/// How far a partition is behind.
#[derive(Debug, Clone)]
pub struct Lag {
    /// The partition.
    pub state: PartitionState,
    /// The next offset of the position that was asked about.
    pub next_offset: Option<i64>,
    /// How many offsets lie between it and the end; none while the end is not known.
    pub lag: Option<i64>,
}

impl SourceState {
    /// How far `position` is behind, for every partition.
    pub fn lags(&self, position: &Position) -> Vec<Lag> {
        let lag = |state: PartitionState| {
            // What is shown is another state than the one that is read.
            let next_offset = match self.rebuilds.running_since_ms {
                Some(_) => state.next_offset,
                None => position.next_offset(&state.topic, state.partition),
            };
            // Nothing of it was read: all that the log has is to come.
            let from = next_offset.or(state.start_offset).unwrap_or(0);
            let lag = state.end_offset.map(|end| (end - from).max(0));
            Lag { state, next_offset, lag }
        };
        if !self.partitions.is_empty() {
            return self.partitions.iter().cloned().map(lag).collect();
        }
        let ends = self.end.iter().map(|(topic, partition, end)| PartitionState {
            topic: topic.into(),
            partition,
            phase: self.phase,
            next_offset: None,
            start_offset: None,
            end_offset: Some(end),
            held_by_transaction: 0,
            last_error: None,
            identity_fault: None,
        });
        ends.map(lag).collect()
    }
}

/// Shared between a source, which writes it, and whoever shows it.
#[derive(Debug, Clone)]
pub struct SourceStatus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: RwLock<SourceState>,
    changes: AtomicU64,
    end_of_log: EndOfLog,
}

impl Default for SourceStatus {
    fn default() -> Self {
        let state = RwLock::new(SourceState {
            phase: Phase::Connecting,
            last_heard_ms: 0,
            end_at_start: None,
            end: Position::default(),
            partitions: Vec::new(),
            troubles: BTreeMap::new(),
            identity_faults: BTreeMap::new(),
            commits_failed: 0,
            last_error: None,
            incomplete_since_ms: None,
            rebuilds: Rebuilds::default(),
            heartbeats: None,
        });
        Self(Arc::new(Shared { state, changes: AtomicU64::new(0), end_of_log: EndOfLog::default() }))
    }
}

impl SourceStatus {
    /// Where the log ends now, for who asks; the source answers.
    pub fn end_of_log(&self) -> &EndOfLog {
        &self.0.end_of_log
    }

    /// The state now.
    pub fn get(&self) -> SourceState {
        self.0.state.read().expect("no holder of the source status panics").clone()
    }

    /// Looks at the state without copying it.
    pub fn look<T>(&self, look: impl FnOnce(&SourceState) -> T) -> T {
        look(&self.0.state.read().expect("no holder of the source status panics"))
    }

    /// How often it has changed: what was seen at this number, or later, is what it is while the number stays. Takes no
    /// lock, so that every request may ask.
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }

    /// Changes the state.
    pub fn update(&self, change: impl FnOnce(&mut SourceState)) {
        change(&mut self.0.state.write().expect("no holder of the source status panics"));
        self.0.changes.fetch_add(1, Ordering::Release);
    }
}
