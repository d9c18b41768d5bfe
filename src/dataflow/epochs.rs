//! Where epochs come from: the wall clock when serving, the log's own timestamps when replaying.

use crate::clock::now_ms;
use crate::model::{Epoch, plausible_ms};

/// A source of epochs.
pub trait EpochSource: Send {
    /// The next epoch, greater than `last`; `newest_timestamp_ms` is the greatest record timestamp in it
    /// that is believed, if any.
    fn next(&mut self, last: Epoch, newest_timestamp_ms: Option<i64>) -> Epoch;

    /// Whether a record's timestamp may tell the time.
    fn believes(&self, timestamp_ms: i64) -> bool;

    /// Whether epochs must wait for their records, because only they tell the time.
    fn waits_for_records(&self) -> bool;
}

/// The wall clock; stands still rather than go back.
#[derive(Debug, Default)]
pub struct WallClock;

impl EpochSource for WallClock {
    fn next(&mut self, last: Epoch, _newest_timestamp_ms: Option<i64>) -> Epoch {
        now_ms().max(last + 1)
    }

    fn believes(&self, _timestamp_ms: i64) -> bool {
        false
    }

    fn waits_for_records(&self) -> bool {
        false
    }
}

/// The running maximum of the records' timestamps, so that a replay is the same every time. Timestamps beyond
/// `latest` (the far future of a broken clock) do not carry the rest away.
#[derive(Debug)]
pub struct LogTime {
    latest: Epoch,
}

impl Default for LogTime {
    /// Up to a year from now.
    fn default() -> Self {
        Self { latest: now_ms() + 366 * 86_400_000 }
    }
}

impl LogTime {
    /// Timestamps up to `latest` count.
    pub fn until(latest: Epoch) -> Self {
        Self { latest }
    }
}

impl EpochSource for LogTime {
    fn next(&mut self, last: Epoch, newest_timestamp_ms: Option<i64>) -> Epoch {
        newest_timestamp_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0).max(last + 1)
    }

    fn believes(&self, timestamp_ms: i64) -> bool {
        plausible_ms(timestamp_ms).is_some_and(|ms| ms <= self.latest)
    }

    fn waits_for_records(&self) -> bool {
        true
    }
}
