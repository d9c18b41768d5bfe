//! Rows that come and go as time passes: they wait here until it is their time, ordered by it.
//!
//! A row that is there from `t` on counts from the later of `t` and its `from` until its `until`, so it is one update at
//! each of the two. Those whose time has come are passed on at exactly their time once the frontier is beyond it; the
//! others wait in one ordered map, which costs the logarithm of how many they are for each that comes or goes, and
//! nothing while time passes. What a retraction makes cancels there with what it retracts. The frontier goes on with
//! that of the input: the capability that is held is for the earliest time that something waits for, which is not before
//! the input's.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use differential_dataflow::VecCollection;
use timely::dataflow::channels::pact::Pipeline;

use super::evaluate::{Made, Outcome, Repeats, evaluate};
use super::in_order::{InOrder, in_order};
use crate::dataflow::meter::{Held, Meter, bytes_of};
use crate::dataflow::shared_batch::Diff;
use crate::model::Epoch;
use crate::sql::{Bounds, Interval, Row};

/// A row and when it counts.
type Timed = (Row, Interval);

/// The rows that count at each time.
pub(super) fn temporal<'scope>(
    rows: VecCollection<'scope, Epoch, Row, Diff>,
    bounds: &Bounds,
    evaluating: Arc<Meter>,
    waiting: Arc<Meter>,
) -> Outcome<'scope, Epoch, Row, Diff> {
    let bounds = bounds.clone();
    let with_intervals = move |rows: &[&Row]| {
        let intervals = bounds.run(rows);
        let made = intervals.rows.into_iter().map(|(place, interval)| (place, (rows[place].clone(), interval)));
        Made { rows: made.collect(), failures: intervals.failures }
    };
    let (timed, failures) =
        evaluate(rows, "Bounds", evaluating, Repeats::Seldom, with_intervals, |timed: Timed, count| (timed, count));
    (in_order(timed.inner, Pipeline, "Temporal", waiting, Future::default(), None), failures)
}

/// What has not come to pass.
#[derive(Default)]
struct Future {
    changes: BTreeMap<(Epoch, Row), Diff>,
    /// Greater than any time of the input so far.
    now: Epoch,
    held: Held,
}

/// What an entry takes.
fn entry_bytes(row: &Row) -> usize {
    bytes_of(row) + size_of::<(Epoch, Diff)>()
}

impl Future {
    /// Notes that a row comes so many times at a time that is not over yet, or leaves.
    fn expect(&mut self, time: Epoch, row: Row, change: Diff) {
        match self.changes.entry((time, row)) {
            Entry::Vacant(entry) => {
                self.held.add(entry_bytes(&entry.key().1));
                entry.insert(change);
            }
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += change;
                if *entry.get() == 0 {
                    let ((_, row), _) = entry.remove_entry();
                    self.held.remove(entry_bytes(&row));
                }
            }
        }
    }
}

impl InOrder for Future {
    type Datum = Timed;
    type Weight = Diff;
    type Made = Row;

    fn take(&mut self, updates: &mut Vec<(Timed, Epoch, Diff)>) {
        for ((row, interval), time, count) in updates.drain(..) {
            self.now = self.now.max(time + 1);
            let comes = time.max(interval.from);
            let Some(leaves) = interval.until else {
                self.expect(comes, row, count);
                continue;
            };
            if comes < leaves {
                self.expect(comes, row.clone(), count);
                self.expect(leaves, row, -count);
            }
        }
    }

    fn act(&mut self, until: Epoch, meter: &Meter, made: &mut Vec<(Row, Epoch, Diff)>) {
        let before = made.len();
        while let Some(first) = self.changes.first_entry()
            && first.key().0 < until
        {
            let ((time, row), change) = first.remove_entry();
            self.held.remove(entry_bytes(&row));
            made.push((row, time, change));
        }
        meter.stepped(made.len() - before);
    }

    fn next(&self) -> Option<Epoch> {
        self.changes.first_key_value().map(|((time, _), _)| *time)
    }

    fn held(&self) -> Held {
        self.held
    }

    /// Time ends where the input does, if not before: what would come later never does.
    fn end(&mut self, frontier: Epoch) {
        let later = self.changes.split_off(&(frontier.max(self.now), Row::empty()));
        later.keys().for_each(|(_, row)| self.held.remove(entry_bytes(row)));
    }
}
