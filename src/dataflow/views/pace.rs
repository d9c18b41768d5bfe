//! How fast what is new catches up, next to what everybody waits for.
//!
//! An epoch needs several words between the workers, and each of them waits for whatever its worker does at the moment.
//! So a slice of what is there is small, by how long the last ones took with all that they brought about, and none is
//! taken while an epoch is on its way; but after as long as the last one took there is another one all the same: however
//! much comes, what is new gets about half of the time.
//!
//! How long a slice took says how much there was to do in it at most: where processors are wanted by others too it was
//! interrupted, and much of a turn may be an epoch's. The one of the last few that was least so tells what a key costs.
//! Were it the last one, a busy machine would make slices ever smaller, and what is new would come ever later.

use std::time::{Duration, Instant};

/// A slice is to take about this long, with what is made of it.
const SLICE_TIME: Duration = Duration::from_millis(4);
/// It has so many keys, however long that takes.
const KEYS_MIN: usize = 64;
/// So many of the last slices tell what a key costs,
const REMEMBERED: usize = 8;
/// but what took longer than this was no interruption.
const INTERRUPTED_MAX: Duration = Duration::from_millis(32);
/// For so long at most nothing is taken after a slice while an epoch is on its way: one that took much longer was
/// interrupted.
const GAP_MAX: Duration = Duration::from_millis(20);

/// When the next slice is taken, and how large it is.
#[derive(Debug)]
pub(in crate::dataflow) struct Pace {
    keys: usize,
    keys_max: usize,
    /// What a key took in the last slices, in seconds; the next one takes the place of the one at `oldest`.
    costs: [f64; REMEMBERED],
    oldest: usize,
    /// While an epoch is on its way there is no slice before this.
    next: Instant,
}

impl Pace {
    /// Slices of so many keys at most.
    pub(in crate::dataflow) fn new(keys_max: usize) -> Self {
        let mut pace = Self { keys: 0, keys_max, costs: Default::default(), oldest: 0, next: Instant::now() };
        pace.forget();
        pace
    }

    /// Nothing is to be caught up with: what comes next may cost anything.
    pub(in crate::dataflow) fn forget(&mut self) {
        (self.keys, self.costs) = (KEYS_MIN.min(self.keys_max), [f64::INFINITY; REMEMBERED]);
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
        let cost = took.as_secs_f64().max(1e-6) / self.keys as f64;
        if took > INTERRUPTED_MAX {
            self.costs = [cost; REMEMBERED];
        }
        self.costs[self.oldest] = cost;
        self.oldest = (self.oldest + 1) % REMEMBERED;
        let cost = self.costs.iter().copied().fold(f64::INFINITY, f64::min);
        let fitting = (SLICE_TIME.as_secs_f64() / cost) as usize;
        self.keys = fitting.min(self.keys * 2).clamp(KEYS_MIN.min(self.keys_max), self.keys_max);
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
    fn a_slice_that_was_interrupted_makes_the_next_ones_no_smaller() {
        let mut pace = Pace::new(1_000);
        let begin = Instant::now();
        for slice in 0..100 {
            let interrupted = if slice % 4 == 0 { Duration::ZERO } else { Duration::from_millis(10) };
            pace.took(begin, begin + Duration::from_nanos(5_000 * pace.keys as u64) + interrupted);
        }
        assert!((700..=900).contains(&pace.keys), "{} keys", pace.keys);
    }

    #[test]
    fn what_costs_much_is_known_at_once() {
        let mut pace = Pace::new(8_192);
        let begin = Instant::now();
        (0..100).for_each(|_| pace.took(begin, begin + Duration::from_nanos(pace.keys as u64)));
        assert_eq!(pace.keys, 8_192);
        pace.took(begin, begin + Duration::from_millis(800));
        assert!(pace.keys < 100, "{} keys", pace.keys);
        pace.forget();
        assert_eq!(pace.keys, KEYS_MIN);
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
