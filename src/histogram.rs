//! Lengths of time, counted by how long they were: plain atomics that any thread may add to and read.
//!
//! In: a length and how often it was met. Out: how many were no longer than each of some bounds, how many there were, and
//! their sum. What nobody refers to any more is gone, which a global recorder of metrics does not promise. Not here: names,
//! labels, text (`telemetry`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Up to how many microseconds each bucket goes; a last one has no end. Fine where a single event is on its way, coarse
/// where a log is caught up with.
pub const BOUNDS_US: [u64; 20] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    20_000,
    30_000,
    40_000,
    60_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    10_000_000,
    60_000_000,
    600_000_000,
    3_600_000_000,
];

/// Counts of lengths of time.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BOUNDS_US.len() + 1], sum_us: AtomicU64::new(0) }
    }
}

/// What a histogram holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    /// How many were no longer than each bound.
    pub within: [u64; BOUNDS_US.len()],
    /// How many there were.
    pub count: u64,
    /// How long all of them were together.
    pub sum_seconds: f64,
}

impl Histogram {
    /// Adds a length that was met so many times.
    pub fn record(&self, length: Duration, times: u64) {
        if times == 0 {
            return;
        }
        let length_us = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound_us| *bound_us < length_us);
        self.buckets[bucket].fetch_add(times, Ordering::Relaxed);
        self.sum_us.fetch_add(length_us.saturating_mul(times), Ordering::Relaxed);
    }

    /// What it holds now.
    pub fn read(&self) -> Counts {
        let mut count = 0;
        let mut within = [0; BOUNDS_US.len()];
        for (place, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            within.get_mut(place).into_iter().for_each(|within| *within = count);
        }
        Counts { within, count, sum_seconds: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_counts_for_every_bound_that_it_does_not_pass() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(1), 3);
        histogram.record(Duration::from_nanos(1_001_000), 2);
        histogram.record(Duration::from_secs(7_200), 1);
        histogram.record(Duration::from_secs(7_200), 0);
        let counts = histogram.read();
        let within = |us: u64| counts.within[BOUNDS_US.iter().position(|bound| *bound == us).expect("a bound")];
        assert_eq!([within(500), within(1_000), within(2_500), within(3_600_000_000)], [0, 3, 5, 5]);
        assert_eq!(counts.count, 6);
        assert!((counts.sum_seconds - 7_200.005_002).abs() < 1e-9, "{}", counts.sum_seconds);
    }
}
