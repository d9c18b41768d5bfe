//! How fast what is new catches up, next to what everybody waits for.
//!
//! An epoch needs several words between the workers, and each of them waits for whatever its worker does at the moment.
//! So a slice of what is there is small, by how long the last ones took with all that they brought about, and none is
//! taken while an epoch is on its way; but after as long as the last one took there is another one all the same: however
//! much comes, what is new gets about half of the time.

use std::time::{Duration, Instant};

/// A slice is to take about this long, with what is made of it.
const SLICE_TIME: Duration = Duration::from_millis(4);
/// It has so many keys, however long that takes.
const KEYS_MIN: usize = 64;
/// For so long at most nothing is taken after a slice while an epoch is on its way: one that took much longer was
/// interrupted.
const GAP_MAX: Duration = Duration::from_millis(20);

/// When the next slice is taken, and how large it is.
#[derive(Debug)]
pub(in crate::dataflow) struct Pace {
    keys: usize,
    keys_max: usize,
    /// While an epoch is on its way there is no slice before this.
    next: Instant,
}

impl Pace {
    /// Slices of so many keys at most.
    pub(in crate::dataflow) fn new(keys_max: usize) -> Self {
        Self { keys: KEYS_MIN.min(keys_max), keys_max, next: Instant::now() }
    }

    /// How many keys a slice may have that is taken now; 0 for none.
    pub(in crate::dataflow) fn slice(&self, epoch_on_its_way: bool, now: Instant) -> usize {
        if epoch_on_its_way && now < self.next { 0 } else { self.keys }
    }

    /// How long there is no slice while an epoch is on its way.
    pub(in crate::dataflow) fn gap(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// A slice was taken, with all that it brought about, from `began` until now.
    pub(in crate::dataflow) fn took(&mut self, began: Instant, now: Instant) {
        let took = now.saturating_duration_since(began);
        self.next = now + took.min(GAP_MAX);
        let fitting = self.keys as f64 * SLICE_TIME.as_secs_f64() / took.as_secs_f64().max(1e-6);
        // One that was interrupted says little.
        let fitting = (fitting as usize).clamp(self.keys / 2, self.keys + self.keys / 4 + 1);
        self.keys = fitting.clamp(KEYS_MIN.min(self.keys_max), self.keys_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_as_large_as_its_time_allows() {
        let mut pace = Pace::new(1_000);
        let begin = Instant::now();
        // A key takes 5 µs, then 50 µs, then nothing.
        for (nanoseconds, expected) in [(5_000, 700..=900), (50_000, 70..=90), (0, 1_000..=1_000)] {
            for _ in 0..100 {
                let took = Duration::from_nanos(nanoseconds * pace.keys as u64);
                pace.took(begin, begin + took);
            }
            assert!(expected.contains(&pace.keys), "{} keys at {nanoseconds} ns each", pace.keys);
        }
    }

    #[test]
    fn while_an_epoch_is_on_its_way_slices_have_half_of_the_time() {
        let mut pace = Pace::new(1_000);
        let (begin, millisecond) = (Instant::now(), Duration::from_millis(1));
        pace.took(begin, begin + millisecond);
        assert_eq!(pace.slice(true, begin + millisecond * 3 / 2), 0);
        assert!(pace.slice(false, begin + millisecond * 3 / 2) > 0);
        assert!(pace.slice(true, begin + millisecond * 2) > 0);
        pace.took(begin, begin + millisecond * 1_000);
        assert!(pace.slice(true, begin + millisecond * 1_020) > 0, "it was interrupted");
    }
}
