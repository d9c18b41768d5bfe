//! Sources: where records come from. Bytes with coordinates in, batches of them out; nothing here parses a value.
//!
//! A source says what it has read ([`RecordBatch`]), how far that takes each partition, and how it is doing
//! ([`SourceStatus`]). Kafka ([`kafka`]), a log in the shape of `kcat -C -J` ([`log_file`]) and the generator are the
//! three there are. To add one: implement [`Source`], add a variant to the configuration, one arm in `service`.
//! Not here: epochs and backpressure (`dataflow::ingest` decides when to poll), decoding (`decode`).

pub mod kafka;
pub mod line;
pub mod log_file;
mod record;

use std::sync::{Arc, RwLock};
use std::time::Duration;

use crate::model::Position;

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
    fn note_ends(&mut self, _position: &mut Position) {}

    /// Tells the outside how far reading has come, for lag tools only; never read back.
    fn commit(&mut self, _position: &Position) {}
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
    /// The Kafka client could not be made from its configuration.
    #[error("could not set up the Kafka consumer: {0}")]
    Setup(String),
    /// The log no longer has the position that was to be read next, and the policy is `halt`.
    #[error("the log no longer has the position of {topic} [{partition}]: {detail}")]
    PositionLost {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What the broker said.
        detail: String,
    },
}

/// How a source is doing, in words that `/status` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No broker has answered yet.
    Connecting,
    /// Reading.
    Reading,
    /// It was connected, and is not now.
    Disconnected,
    /// The position that was to be read is gone from the log; reading has stopped (policy `halt`).
    PositionLost,
    /// The source has ended.
    Ended,
}

impl Phase {
    /// Its name over HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Reading => "reading",
            Self::Disconnected => "disconnected",
            Self::PositionLost => "positionLost",
            Self::Ended => "ended",
        }
    }
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
    /// What went wrong last, none when nothing has since it went well.
    pub last_error: Option<String>,
    /// Since when answers lack events that the log lost before they were read, ms since 1970 (policy `continue`).
    pub incomplete_since_ms: Option<u64>,
}

/// Shared between a source, which writes it, and whoever shows it.
#[derive(Debug, Clone)]
pub struct SourceStatus(Arc<RwLock<SourceState>>);

impl Default for SourceStatus {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(SourceState {
            phase: Phase::Connecting,
            last_heard_ms: 0,
            end_at_start: None,
            end: Position::default(),
            last_error: None,
            incomplete_since_ms: None,
        })))
    }
}

impl SourceStatus {
    /// The state now.
    pub fn get(&self) -> SourceState {
        self.0.read().expect("no holder of the source status panics").clone()
    }

    /// Changes the state.
    pub fn update(&self, change: impl FnOnce(&mut SourceState)) {
        change(&mut self.0.write().expect("no holder of the source status panics"));
    }
}
