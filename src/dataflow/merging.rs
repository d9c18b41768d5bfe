//! When arrangements merge more than arriving updates pay for.
//!
//! A spine merges as updates come in, which bounds how many batches a read looks into but leaves up to as many
//! outdated states in memory as there are current ones. So a worker that has nothing to do finishes the merges that
//! have begun and folds small batches into the greatest once they are a quarter of it: each update is then moved a few
//! times more, and only when nobody waits. After a second without records it merges down to one batch. A worker that is
//! at work most of the time merges nothing but what a spine does by itself, also in the gaps between two batches: what
//! it would merge there is soon merged again.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use differential_dataflow::trace::ExertionLogic;
use timely::WorkerConfig;

/// Without records for this long a worker merges everything.
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// A worker is at leisure if it was at work for less than this share of the time,
const BUSY_SHARE: f64 = 0.5;
/// seen over about this long.
const BUSY_OVER: Duration = Duration::from_millis(200);

/// How much a worker has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leisure {
    /// Records wait.
    Busy,
    /// Nothing waits now.
    Idle,
    /// Nothing has come for a while.
    Quiet,
}

thread_local! {
    /// Of the worker on this thread: spines ask on the thread that owns them.
    static LEISURE: Cell<Leisure> = const { Cell::new(Leisure::Busy) };
}

/// How much of its time a worker was at work lately.
#[derive(Debug)]
pub(super) struct Workload {
    last_records: Instant,
    last_noted: Instant,
    was_at_work: bool,
    busy_share: f64,
}

impl Workload {
    /// Of a worker that begins.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { last_records: now, last_noted: now, was_at_work: true, busy_share: 1.0 }
    }

    /// Notes whether the worker has records to work on now, and tells the arrangements of this thread.
    pub(super) fn note(&mut self, at_work: bool) {
        let now = Instant::now();
        let elapsed = now - self.last_noted;
        let weight = 1.0 - (-elapsed.as_secs_f64() / BUSY_OVER.as_secs_f64()).exp();
        self.busy_share += weight * (f64::from(u8::from(self.was_at_work)) - self.busy_share);
        (self.last_noted, self.was_at_work) = (now, at_work);
        if at_work {
            self.last_records = now;
        }
        LEISURE.set(if at_work || self.busy_share > BUSY_SHARE {
            Leisure::Busy
        } else if now - self.last_records >= QUIET_AFTER {
            Leisure::Quiet
        } else {
            Leisure::Idle
        });
    }
}

/// Makes all arrangements of workers with this configuration merge `effort` updates at a time when there is leisure.
pub(super) fn configure(config: &mut WorkerConfig, effort: usize) {
    let logic: ExertionLogic = Arc::new(move |layers| wants_merging(layers, LEISURE.get()).then_some(effort));
    config.set("differential/default_exert_logic".to_owned(), logic);
}

/// Whether an arrangement with these layers (index, batches, updates) should merge.
fn wants_merging(layers: &[(usize, usize, usize)], leisure: Leisure) -> bool {
    let merging = layers.iter().any(|(_, batches, _)| *batches > 1);
    let greatest = layers.iter().map(|(_, _, updates)| *updates).max().unwrap_or(0);
    let smaller = layers.iter().map(|(_, _, updates)| updates).sum::<usize>() - greatest;
    match leisure {
        Leisure::Busy => false,
        Leisure::Idle => merging || smaller > greatest / 4,
        Leisure::Quiet => merging || smaller > 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_batches_wait_for_leisure_and_until_they_are_many() {
        let few = [(20, 1, 1_000_000), (10, 1, 1_000), (3, 1, 5)];
        let many = [(20, 1, 1_000_000), (18, 1, 250_000), (3, 1, 5)];
        let begun = [(20, 2, 2_000_000), (3, 0, 0)];
        let one = [(20, 1, 1_000_000), (10, 1, 0)];
        let answers =
            |layers: &[_]| [Leisure::Busy, Leisure::Idle, Leisure::Quiet].map(|leisure| wants_merging(layers, leisure));
        assert_eq!(answers(&few), [false, false, true]);
        assert_eq!(answers(&many), [false, true, true]);
        assert_eq!(answers(&begun), [false, true, true]);
        assert_eq!(answers(&one), [false, false, false]);
        assert_eq!(answers(&[]), [false, false, false]);
    }
}
