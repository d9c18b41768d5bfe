//! Each row once, and the sum of what two streams say of a row.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use differential_dataflow::{Data, VecCollection};
use timely::dataflow::channels::pact::{Exchange, Pipeline};

use super::in_order::{InOrder, Waiting, in_order};
use crate::dataflow::index::HashKeys;
use crate::dataflow::meter::{Held, Meter, bytes_of};
use crate::dataflow::shared_batch::Diff;
use crate::model::Epoch;
use crate::sql::Row;

/// Each row once, for as long as it is there at all.
pub(super) fn distinct<'scope>(
    rows: VecCollection<'scope, Epoch, Row, Diff>,
    keys: HashKeys,
    meter: Arc<Meter>,
) -> VecCollection<'scope, Epoch, Row, Diff> {
    let by_row = Exchange::new(move |update: &(Row, Epoch, Diff)| keys.route(&update.0));
    in_order(rows.inner, by_row, "Distinct", meter, Distinct::new())
}

/// How often rows are there.
struct Distinct {
    waiting: Waiting<Row, Diff>,
    counts: BTreeMap<Row, Diff>,
    held: Held,
}

impl Distinct {
    fn new() -> Self {
        Self { waiting: Waiting::new(), counts: BTreeMap::new(), held: Held::default() }
    }
}

/// What an entry takes.
fn entry_bytes(row: &Row) -> usize {
    bytes_of(row) + size_of::<Diff>()
}

impl InOrder for Distinct {
    type Datum = Row;
    type Weight = Diff;
    type Made = Row;

    fn take(&mut self, updates: &mut Vec<(Row, Epoch, Diff)>) {
        self.waiting.put(updates);
    }

    fn act(&mut self, until: Epoch, meter: &Meter, made: &mut Vec<(Row, Epoch, Diff)>) {
        let mut steps = 0;
        for (row, time, change) in self.waiting.until(until) {
            steps += 1;
            match self.counts.entry(row) {
                Entry::Vacant(entry) => {
                    assert!(change > 0, "a row is taken away that is not there");
                    made.push((entry.key().clone(), time, 1));
                    self.held.add(entry_bytes(entry.key()));
                    entry.insert(change);
                }
                Entry::Occupied(mut entry) => {
                    let count = *entry.get() + change;
                    assert!(count >= 0, "a row is taken away more often than it is there");
                    if count > 0 {
                        entry.insert(count);
                    } else {
                        let (row, _) = entry.remove_entry();
                        self.held.remove(entry_bytes(&row));
                        made.push((row, time, -1));
                    }
                }
            }
        }
        meter.stepped(steps);
    }

    fn next(&self) -> Option<Epoch> {
        self.waiting.next()
    }

    fn held(&self) -> Held {
        self.held
    }
}

/// Adds up what is said of each row at a time, on the worker where it is said: what cancels does not go on.
pub(super) fn consolidate<'scope, D: Data>(
    rows: VecCollection<'scope, Epoch, D, Diff>,
    meter: Arc<Meter>,
) -> VecCollection<'scope, Epoch, D, Diff> {
    in_order(rows.inner, Pipeline, "Consolidate", meter, Sum(Waiting::new()))
}

/// What waits for its time to be complete.
struct Sum<D: Data>(Waiting<D, Diff>);

impl<D: Data> InOrder for Sum<D> {
    type Datum = D;
    type Weight = Diff;
    type Made = D;

    fn take(&mut self, updates: &mut Vec<(D, Epoch, Diff)>) {
        self.0.put(updates);
    }

    fn act(&mut self, until: Epoch, _meter: &Meter, made: &mut Vec<(D, Epoch, Diff)>) {
        made.extend(self.0.until(until));
    }

    fn next(&self) -> Option<Epoch> {
        self.0.next()
    }

    fn held(&self) -> Held {
        Held::default()
    }
}
