//! What the ingest is set up with, and what it leaves behind.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Epoch, Position};

/// How records become epochs.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// An epoch with records is sealed after this.
    pub seal_interval: Duration,
    /// Without records an empty epoch is sealed after this.
    pub idle_seal_interval: Duration,
    /// An epoch is sealed when it has this many bytes.
    pub epoch_bytes_max: usize,
    /// An epoch is sealed when it has this many records.
    pub epoch_records_max: usize,
    /// One worker gets about this many bytes at a time.
    pub chunk_bytes: usize,
    /// At most this many epochs are on their way.
    pub in_flight_epochs_max: usize,
    /// At most about this many bytes are on their way.
    pub in_flight_bytes_max: usize,
    /// At most about this many bytes wait for epochs that are to be sealed again.
    pub resealing_bytes_max: usize,
    /// How often the source is told how far reading has come.
    pub commit_interval: Duration,
    /// Topics that are read; empty for all but those known to carry something else.
    pub topics: Vec<String>,
    /// Where reading begins; records below are dropped.
    pub resume: Position,
    /// Epochs that were sealed before, each with the position it sealed, in order: they are sealed again with the same
    /// records before any other.
    pub bindings: Vec<(Epoch, Arc<Position>)>,
    /// New epochs are greater than this.
    pub last_epoch: Epoch,
    /// Which life of the state it begins with.
    pub incarnation: u64,
    /// Whether all ends when the source does, as a replay; otherwise time goes on over a log that has ended.
    pub ends_with_source: bool,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            seal_interval: Duration::from_millis(10),
            idle_seal_interval: Duration::from_secs(1),
            epoch_bytes_max: 16 * 1024 * 1024,
            epoch_records_max: usize::MAX,
            chunk_bytes: 256 * 1024,
            in_flight_epochs_max: 32,
            in_flight_bytes_max: 64 * 1024 * 1024,
            resealing_bytes_max: 256 * 1024 * 1024,
            commit_interval: Duration::from_secs(5),
            topics: Vec::new(),
            resume: Position::default(),
            bindings: Vec::new(),
            last_epoch: 0,
            incarnation: 0,
            ends_with_source: true,
        }
    }
}

/// How the ingest came to its end.
#[derive(Debug, Clone)]
pub struct IngestEnd {
    /// The last epoch that was sealed here.
    pub sealed: Epoch,
    /// No epoch beyond this was ever shown.
    pub last_epoch: Epoch,
    /// How far reading came.
    pub position: Arc<Position>,
    /// Why the state is to be made anew: the log is another one, or lacks what was to be read next.
    pub another_log: Option<String>,
}
