//! Where epochs come from: the wall clock when serving, the log's own timestamps when replaying.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{Clock, SystemClock, now_ms};
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

    /// The time at which all is seen when the source has ended, if it is to be a certain one.
    fn end(&self) -> Option<Epoch>;
}

/// A wall clock that is ahead by more than this is not believed at once.
const JUMP_MS_MAX: u64 = 3_600_000;

/// The wall clock, kept from jumping: it stands still rather than go back, and after a leap of more than an hour it
/// only runs at double speed, because everything that expires by time would otherwise expire at once (T9).
#[derive(Debug)]
pub struct WallClock {
    clock: Arc<dyn Clock>,
    noted: Instant,
    noted_ms: u64,
    leaping: bool,
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl WallClock {
    /// That wall clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { noted: clock.instant(), noted_ms: clock.now_ms(), leaping: false, clock }
    }

    /// The time to go by, when the wall shows `wall_ms` and `elapsed_ms` have passed since the last call.
    fn follow(&mut self, wall_ms: u64, elapsed_ms: u64) -> u64 {
        let expected_ms = self.noted_ms + elapsed_ms;
        let leaps = wall_ms > expected_ms + JUMP_MS_MAX;
        if leaps && !self.leaping {
            let ahead_ms = wall_ms - expected_ms;
            tracing::warn!(ahead_ms, "the wall clock leapt ahead; epochs follow it at double speed");
        }
        self.leaping = leaps;
        self.noted_ms = if leaps { expected_ms + elapsed_ms } else { wall_ms.max(self.noted_ms) };
        self.noted_ms
    }
}

impl EpochSource for WallClock {
    fn next(&mut self, last: Epoch, _newest_timestamp_ms: Option<i64>) -> Epoch {
        let elapsed_ms = u64::try_from((self.clock.instant() - self.noted).as_millis()).unwrap_or(0);
        // Whole milliseconds only, so that many short steps lose nothing.
        self.noted += Duration::from_millis(elapsed_ms);
        self.follow(self.clock.now_ms(), elapsed_ms).max(last + 1)
    }

    fn believes(&self, _timestamp_ms: i64) -> bool {
        false
    }

    fn waits_for_records(&self) -> bool {
        false
    }

    fn end(&self) -> Option<Epoch> {
        None
    }
}

/// The running maximum of the records' timestamps, so that a replay is the same every time. Timestamps beyond
/// `latest` (the far future of a broken clock) do not carry the rest away.
#[derive(Debug)]
pub struct LogTime {
    latest: Epoch,
    end: Option<Epoch>,
}

impl Default for LogTime {
    /// Up to a year from now.
    fn default() -> Self {
        Self { latest: now_ms() + 366 * 86_400_000, end: None }
    }
}

impl LogTime {
    /// Timestamps up to `latest` count.
    pub fn until(latest: Epoch) -> Self {
        Self { latest, end: None }
    }

    /// Timestamps up to `now` count, and when the log has ended it is `now`.
    pub fn ending(now: Epoch) -> Self {
        Self { latest: now, end: Some(now) }
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

    fn end(&self) -> Option<Epoch> {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_followed_but_not_in_leaps() {
        let mut clock = WallClock { noted_ms: 1_000_000, ..WallClock::default() };
        assert_eq!(clock.follow(1_000_010, 10), 1_000_010);
        assert_eq!(clock.follow(990_000, 10), 1_000_010, "back: it stands still");
        assert_eq!(clock.follow(1_900_000, 10), 1_900_000, "a quarter of an hour: it follows");
        let ten_years = 315_360_000_000;
        assert_eq!(clock.follow(ten_years, 10), 1_900_020, "ten years: at double speed");
        assert_eq!(clock.follow(ten_years, 1_000), 1_902_020);
        assert_eq!(clock.follow(1_903_100, 1_000), 1_903_100, "the wall is right again");
    }

    #[test]
    fn log_time_believes_nothing_before_2015_and_nothing_far_ahead() {
        let clock = LogTime::until(1_900_000_000_000);
        let believed = [0, -1, 1_000, 1_795_000_000_000, 253_402_300_799_000].map(|ms| clock.believes(ms));
        assert_eq!(believed, [false, false, false, true, false]);
    }
}
