//! When arrangements merge more than arriving updates pay for.
//!
//! A spine merges as updates come in, which bounds how many batches a read looks into but leaves up to as many
//! outdated states in memory as there are current ones. So a worker that has nothing to do finishes the merges that
//! have begun and folds small batches into the greatest once they are a quarter of it: each update is then moved a few
//! times more, and only when nobody waits. After a second without records it merges down to one batch. A worker that is
//! at work most of the time merges nothing but what a spine does by itself, also in the gaps between two batches: what
//! it would merge there is soon merged again.
//!
//! While a merge is on its way its arrangement is in memory twice. So arrangements that are large take turns, over all
//! workers: else they would all be twice in memory at the same moment, since all workers become quiet at once.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use differential_dataflow::trace::ExertionLogic;
use timely::WorkerConfig;

/// Without records for this long a worker merges everything.
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// A worker is at leisure if it was at work for less than this share of the time,
const BUSY_SHARE: f64 = 0.5;
/// seen over about this long.
const BUSY_OVER: Duration = Duration::from_millis(200);
/// Where a merge moves fewer updates than this, nobody takes turns.
const LARGE_UPDATES: usize = 100_000;
/// A turn that was not used for this long is over. One that is used is used at every step of its worker.
const TURN: Duration = Duration::from_millis(50);

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

    /// Notes whether the worker has anything to work on now, and whether records have come; tells the arrangements of
    /// this thread. A step that has little to do may merge as well: arrangements are only asked when they are stepped.
    pub(super) fn note(&mut self, at_work: bool, records: bool) {
        let now = Instant::now();
        let elapsed = now - self.last_noted;
        let weight = 1.0 - (-elapsed.as_secs_f64() / BUSY_OVER.as_secs_f64()).exp();
        self.busy_share += weight * (f64::from(u8::from(self.was_at_work)) - self.busy_share);
        (self.last_noted, self.was_at_work) = (now, at_work);
        if records {
            self.last_records = now;
        }
        LEISURE.set(if self.busy_share > BUSY_SHARE {
            Leisure::Busy
        } else if now - self.last_records >= QUIET_AFTER {
            Leisure::Quiet
        } else {
            Leisure::Idle
        });
    }
}

/// How arrangements merge; the same for all workers of an engine.
pub(super) struct Merging {
    effort: usize,
    turns: Mutex<Turns>,
}

/// Whose turn it is to merge what is large.
#[derive(Debug, Default)]
struct Turns {
    /// How many take part.
    members: usize,
    /// Who merges, and when it last did.
    taken: Option<(usize, Instant)>,
}

impl Merging {
    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().expect("no holder of the turns panics")
    }
}

impl Turns {
    /// One more takes part.
    fn join(&mut self) -> usize {
        self.members += 1;
        self.members
    }

    /// Whether `member` may merge now.
    fn take(&mut self, member: usize, now: Instant) -> bool {
        let free = self.taken.is_none_or(|(taken_by, used)| taken_by == member || now - used >= TURN);
        if free {
            self.taken = Some((member, now));
        }
        free
    }
}

/// Where a worker's configuration has its [`Merging`], for arrangements of our own.
const MERGING_KEY: &str = "tarn/merging";
/// Where differential's own operators look for theirs.
const DEFAULT_KEY: &str = "differential/default_exert_logic";

/// Makes all arrangements of workers with this configuration merge `effort` updates at a time when there is leisure.
/// Those that differential makes take their turn together: only one of them is ever large.
pub(super) fn configure(config: &mut WorkerConfig, effort: usize) {
    let merging = Arc::new(Merging { effort, turns: Mutex::default() });
    config.set(DEFAULT_KEY.to_owned(), logic(&merging));
    config.set(MERGING_KEY.to_owned(), merging);
}

/// How the next arrangement of a worker with this configuration merges; none where it shall not.
pub(super) fn next_logic(config: &WorkerConfig) -> Option<ExertionLogic> {
    config.get::<Arc<Merging>>(MERGING_KEY).map(logic)
}

fn logic(merging: &Arc<Merging>) -> ExertionLogic {
    let merging = Arc::clone(merging);
    let member = merging.turns().join();
    Arc::new(move |layers| {
        let merges = wants_merging(layers, LEISURE.get())
            && (moved_updates(layers) < LARGE_UPDATES || merging.turns().take(member, Instant::now()));
        merges.then_some(merging.effort)
    })
}

/// How many updates a merge of these layers moves: those of the merges that have begun, else all.
fn moved_updates(layers: &[(usize, usize, usize)]) -> usize {
    let sum = |begun: bool| layers.iter().filter(|layer| !begun || layer.1 > 1).map(|layer| layer.2).sum();
    Some(sum(true)).filter(|begun| *begun > 0).unwrap_or_else(|| sum(false))
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

    #[test]
    fn large_merges_take_turns_and_small_ones_do_not() {
        let begin = Instant::now();
        let mut turns = Turns::default();
        assert!(turns.take(1, begin) && !turns.take(2, begin) && turns.take(1, begin + TURN / 2));
        assert!(!turns.take(2, begin + TURN), "it was used since");
        assert!(turns.take(2, begin + TURN * 2) && !turns.take(1, begin + TURN * 2));

        let mut config = WorkerConfig::default();
        configure(&mut config, 10);
        let [first, second] = [(); 2].map(|()| next_logic(&config).expect("it was configured"));
        LEISURE.set(Leisure::Idle);
        let (large, small) = ([(20, 2, 2_000_000)], [(20, 1, 1_000_000), (5, 2, 60)]);
        assert_eq!(
            [first(&large), second(&large), second(&small), first(&large)],
            [Some(10), None, Some(10), Some(10)]
        );
    }
}
