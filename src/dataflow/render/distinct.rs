//! Each row once, and the sum of what two streams say of a row.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use differential_dataflow::{Data, VecCollection};
use timely::dataflow::channels::pact::{Exchange, Pipeline};

use super::hashed::Hashed;
use super::in_order::{InOrder, Waiting, in_order};
use crate::dataflow::meter::{Held, Meter};
use crate::dataflow::shared_batch::Diff;
use crate::model::Epoch;

/// Each row once, for as long as it is there at all, and in the form in which it goes on.
pub(super) fn distinct<'scope, D: Data>(
    rows: VecCollection<'scope, Epoch, Hashed, Diff>,
    meter: Arc<Meter>,
    form: fn(Hashed) -> D,
) -> VecCollection<'scope, Epoch, D, Diff> {
    let by_row = Exchange::new(|update: &(Hashed, Epoch, Diff)| update.0.route());
    in_order(rows.inner, by_row, "Distinct", meter, Distinct::new(form), None)
}

/// How often rows are there.
struct Distinct<D> {
    waiting: Waiting<Hashed, Diff>,
    counts: BTreeMap<Hashed, Diff>,
    held: Held,
    form: fn(Hashed) -> D,
}

impl<D> Distinct<D> {
    fn new(form: fn(Hashed) -> D) -> Self {
        Self { waiting: Waiting::new(), counts: BTreeMap::new(), held: Held::default(), form }
    }

    /// What an entry takes.
    fn entry_bytes(row: &Hashed) -> usize {
        row.bytes() + size_of::<Diff>()
    }
}

impl<D: Data> InOrder for Distinct<D> {
    type Datum = Hashed;
    type Weight = Diff;
    type Made = D;

    fn take(&mut self, updates: &mut Vec<(Hashed, Epoch, Diff)>) {
        self.waiting.put(updates);
    }

    fn act(&mut self, until: Epoch, meter: &Meter, made: &mut Vec<(D, Epoch, Diff)>) {
        let mut steps = 0;
        for (row, time, change) in self.waiting.until(until) {
            steps += 1;
            match self.counts.entry(row) {
                Entry::Vacant(entry) => {
                    assert!(change > 0, "a row is taken away that is not there");
                    made.push(((self.form)(entry.key().clone()), time, 1));
                    self.held.add(Self::entry_bytes(entry.key()));
                    entry.insert(change);
                }
                Entry::Occupied(mut entry) => {
                    let count = *entry.get() + change;
                    assert!(count >= 0, "a row is taken away more often than it is there");
                    if count > 0 {
                        entry.insert(count);
                    } else {
                        let (row, _) = entry.remove_entry();
                        self.held.remove(Self::entry_bytes(&row));
                        made.push(((self.form)(row), time, -1));
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
    in_order(rows.inner, Pipeline, "Consolidate", meter, Sum(Waiting::new()), None)
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
