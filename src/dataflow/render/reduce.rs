//! A row for each group of rows.
//!
//! What a row adds to its group is the difference of an update: changes of one group are added up where they are made,
//! before they go to the worker that has the group, and again while they wait, so a million rows of ten groups are ten
//! updates. What they have added up to so far is not an arrangement but an ordered map of one entry a group: nobody else
//! reads it, times are totally ordered, and a sum that is updated in place needs no batches, no merges that hold it
//! twice, and no copies of what can be large. Groups whose values are kept in order are in such a map too.
//!
//! The row of a group is made of its sum before and after a change, and told only where they differ. A group without
//! `GROUP BY` has a row without rows too: the worker that has it says so at the beginning of time.

use std::collections::BTreeMap;
use std::collections::btree_map::{Entry, OccupiedEntry};
use std::ops::Bound;
use std::sync::Arc;

use differential_dataflow::difference::{IsZero, Semigroup};
use differential_dataflow::{AsCollection, VecCollection};
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::core::OkErr;

use super::evaluate::{Made, Outcome, Repeats, evaluate};
use super::hashed::Hashed;
use super::hydration::{Hydration, PORTION};
use super::in_order::{InOrder, Waiting, in_order};
use crate::dataflow::index::HashKeys;
use crate::dataflow::meter::{Held, Meter};
use crate::dataflow::shared_batch::Diff;
use crate::model::Epoch;
use crate::sql::{Accumulators, Contribution, Failure, Group, Grouping, Row};

/// What becomes of a group.
type Finished = Result<Row, Failure>;

/// A row for each group; also the groups of which none could be made.
pub(super) fn reduce<'scope>(
    rows: VecCollection<'scope, Epoch, Row, Diff>,
    grouping: &Arc<Grouping>,
    keys: HashKeys,
    evaluating: Arc<Meter>,
    grouped: Arc<Meter>,
    hydration: Hydration,
) -> Outcome<'scope, Epoch, Row, Diff> {
    let scope = rows.scope();
    let is_here = Hashed::new(keys, Row::empty()).route() % scope.peers() as u64 == scope.index() as u64;
    let begins = (grouping.is_global() && is_here).then_some(0);
    let contributing = Arc::clone(grouping);
    let contributions = move |rows: &[&Row]| {
        let contributions = contributing.run(rows);
        Made { rows: contributions.rows, failures: contributions.failures }
    };
    let (finished, failed) = if grouping.is_accumulable() {
        let weigh = move |one: Contribution, count: Diff| {
            (Hashed::new(keys, one.key), Sum(one.accumulators.times(count as i64)))
        };
        let (sums, failed) = evaluate(rows, "Contributions", evaluating, Repeats::Often, contributions, weigh);
        let by_key = Exchange::new(|update: &(Hashed, Epoch, Sum)| update.0.route());
        let operator = Sums::new(Arc::clone(grouping), begins);
        (in_order(sums.inner, by_key, "Reduce", grouped, operator, Some(hydration)), failed)
    } else {
        let weigh =
            move |one: Contribution, count: Diff| ((Hashed::new(keys, one.key), one.accumulators, one.values), count);
        let (parts, failed) = evaluate(rows, "Contributions", evaluating, Repeats::Seldom, contributions, weigh);
        let by_key = Exchange::new(|update: &(Part, Epoch, Diff)| update.0.0.route());
        let operator = Groups::new(Arc::clone(grouping), begins);
        (in_order(parts.inner, by_key, "Reduce", grouped, operator, Some(hydration)), failed)
    };
    let (rows, unfinished) = finished.inner.ok_err(|(finished, time, count): (Finished, Epoch, Diff)| match finished {
        Ok(row) => Ok((row, time, count)),
        Err(failure) => Err((failure, time, count)),
    });
    (rows.as_collection(), failed.concat(unfinished.as_collection()))
}

/// Tells what a group was and what it is, where they differ.
fn tell(before: Option<Finished>, after: Option<Finished>, time: Epoch, made: &mut Vec<(Finished, Epoch, Diff)>) {
    if before != after {
        made.extend(before.map(|finished| (finished, time, -1)));
        made.extend(after.map(|finished| (finished, time, 1)));
    }
}

/// Tells the groups after the last one that was told; whether there are more.
fn tell_portion<G>(
    groups: &BTreeMap<Hashed, G>,
    told: &mut Option<Hashed>,
    finish: impl Fn(&Hashed, &G) -> Option<Finished>,
    time: Epoch,
    meter: &Meter,
    made: &mut Vec<(Finished, Epoch, Diff)>,
) -> bool {
    let after = told.take().map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = groups.range((after, Bound::Unbounded));
    let (mut last, mut steps) = (None, 0);
    for (key, group) in rest.by_ref().take(PORTION) {
        tell(None, finish(key, group), time, made);
        (last, steps) = (Some(key), steps + 1);
    }
    meter.stepped(steps);
    *told = rest.next().and(last).cloned();
    told.is_some()
}

/// What rows add to their group, as a difference.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sum(Accumulators);

impl IsZero for Sum {
    fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

impl Semigroup for Sum {
    fn plus_equals(&mut self, other: &Self) {
        self.0.add(&other.0);
    }
}

/// Groups whose aggregates all ride in the difference.
struct Sums {
    grouping: Arc<Grouping>,
    waiting: Waiting<Hashed, Sum>,
    sums: BTreeMap<Hashed, Accumulators>,
    held: Held,
    /// When the row of no rows is to be told.
    begins: Option<Epoch>,
    /// The last group that was told, of those that were taken in silently.
    told: Option<Hashed>,
}

impl Sums {
    fn new(grouping: Arc<Grouping>, begins: Option<Epoch>) -> Self {
        Self { grouping, waiting: Waiting::new(), sums: BTreeMap::new(), held: Held::default(), begins, told: None }
    }

    /// What an entry takes.
    fn entry_bytes(key: &Hashed) -> usize {
        key.bytes() + size_of::<Accumulators>()
    }

    /// Adds all that is before `until`; where it is to be told, it is.
    fn apply(&mut self, until: Epoch, meter: &Meter, mut made: Option<&mut Vec<(Finished, Epoch, Diff)>>) {
        let (grouping, mut steps) = (&self.grouping, 0);
        for (key, time, Sum(change)) in self.waiting.until(until) {
            steps += 1;
            match self.sums.entry(key) {
                Entry::Vacant(entry) => {
                    assert!(change.rows() > 0, "a group loses rows that it has not");
                    if let Some(made) = &mut made {
                        let key = entry.key().row();
                        let before = grouping.is_global().then(|| grouping.finish(key, &grouping.nothing())).flatten();
                        tell(before, grouping.finish(key, &change), time, made);
                    }
                    self.held.add(Self::entry_bytes(entry.key()));
                    entry.insert(change);
                }
                Entry::Occupied(mut entry) => {
                    let finished = |entry: &OccupiedEntry<'_, Hashed, Accumulators>| {
                        made.is_some().then(|| grouping.finish(entry.key().row(), entry.get())).flatten()
                    };
                    let before = finished(&entry);
                    entry.get_mut().add(&change);
                    let after = finished(&entry);
                    if let Some(made) = &mut made {
                        tell(before, after, time, made);
                    }
                    assert!(entry.get().rows() >= 0, "a group loses more rows than it has");
                    if entry.get().rows() == 0 {
                        let (key, sum) = entry.remove_entry();
                        assert!(sum.is_zero(), "something is left of a group without rows");
                        self.held.remove(Self::entry_bytes(&key));
                    }
                }
            }
        }
        meter.stepped(steps);
    }
}

impl InOrder for Sums {
    type Datum = Hashed;
    type Weight = Sum;
    type Made = Finished;

    fn take(&mut self, updates: &mut Vec<(Hashed, Epoch, Sum)>) {
        self.waiting.put(updates);
    }

    fn act(&mut self, until: Epoch, meter: &Meter, made: &mut Vec<(Finished, Epoch, Diff)>) {
        if let Some(time) = self.begins.take() {
            tell(None, self.grouping.finish(&Row::empty(), &self.grouping.nothing()), time, made);
        }
        self.apply(until, meter, Some(made));
    }

    fn absorb(&mut self, until: Epoch, meter: &Meter) {
        self.apply(until, meter, None);
    }

    fn tell_portion(&mut self, time: Epoch, meter: &Meter, made: &mut Vec<(Finished, Epoch, Diff)>) -> bool {
        if self.begins.take().is_some() && self.sums.is_empty() {
            tell(None, self.grouping.finish(&Row::empty(), &self.grouping.nothing()), time, made);
        }
        let finish = |key: &Hashed, sum: &Accumulators| self.grouping.finish(key.row(), sum);
        tell_portion(&self.sums, &mut self.told, finish, time, meter, made)
    }

    fn next(&self) -> Option<Epoch> {
        [self.begins, self.waiting.next()].into_iter().flatten().min()
    }

    fn held(&self) -> Held {
        self.held
    }
}

/// A row as its group sees it: the group, what it adds, and its values.
type Part = (Hashed, Accumulators, Box<[Option<Row>]>);

/// Groups whose values are kept in order.
struct Groups {
    grouping: Arc<Grouping>,
    waiting: Waiting<Part, Diff>,
    groups: BTreeMap<Hashed, Group>,
    held: Held,
    begins: Option<Epoch>,
    told: Option<Hashed>,
}

impl Groups {
    fn new(grouping: Arc<Grouping>, begins: Option<Epoch>) -> Self {
        Self { grouping, waiting: Waiting::new(), groups: BTreeMap::new(), held: Held::default(), begins, told: None }
    }

    /// What an entry takes without its values.
    fn entry_bytes(key: &Hashed) -> usize {
        key.bytes() + size_of::<Group>()
    }

    /// Applies all that is before `until`; where it is to be told, it is.
    fn apply(&mut self, until: Epoch, meter: &Meter, mut made: Option<&mut Vec<(Finished, Epoch, Diff)>>) {
        let mut updates: Vec<_> = self.waiting.until(until).collect();
        meter.stepped(updates.len());
        // Group by group, then by time.
        updates.sort_by(|(a, at, _), (b, bt, _)| a.0.cmp(&b.0).then(at.cmp(bt)));
        let mut updates = updates.into_iter().peekable();
        while let Some(((key, ..), time, _)) = updates.peek() {
            let (key, time) = (key.clone(), *time);
            let mut entry = match self.groups.entry(key.clone()) {
                Entry::Occupied(entry) => entry,
                Entry::Vacant(entry) => {
                    self.held.add(Self::entry_bytes(&key));
                    entry.insert_entry(Group::new(&self.grouping))
                }
            };
            let group = entry.get_mut();
            let finished = |group: &Group| made.is_some().then(|| group.finish(key.row())).flatten();
            let (before, (_, bytes_before)) = (finished(group), group.held());
            while let Some(((_, accumulators, values), _, count)) =
                updates.next_if(|((group, ..), at, _)| *group == key && *at == time)
            {
                let contribution = Contribution { key: key.row().clone(), accumulators, values };
                group.apply(&contribution, count as i64);
            }
            let after = finished(group);
            if let Some(made) = &mut made {
                tell(before, after, time, made);
            }
            self.held.bytes = self.held.bytes - bytes_before + group.held().1;
            assert!(group.rows() >= 0, "a group loses more rows than it has");
            if group.rows() == 0 {
                let left = entry.remove();
                assert!(left.is_empty(), "something is left of a group without rows: {left:?}");
                self.held.remove(Self::entry_bytes(&key));
            }
        }
    }
}

impl InOrder for Groups {
    type Datum = Part;
    type Weight = Diff;
    type Made = Finished;

    fn take(&mut self, updates: &mut Vec<(Part, Epoch, Diff)>) {
        self.waiting.put(updates);
    }

    fn act(&mut self, until: Epoch, meter: &Meter, made: &mut Vec<(Finished, Epoch, Diff)>) {
        if let Some(time) = self.begins.take() {
            tell(None, Group::new(&self.grouping).finish(&Row::empty()), time, made);
        }
        self.apply(until, meter, Some(made));
    }

    fn absorb(&mut self, until: Epoch, meter: &Meter) {
        self.apply(until, meter, None);
    }

    fn tell_portion(&mut self, time: Epoch, meter: &Meter, made: &mut Vec<(Finished, Epoch, Diff)>) -> bool {
        if self.begins.take().is_some() && self.groups.is_empty() {
            tell(None, Group::new(&self.grouping).finish(&Row::empty()), time, made);
        }
        let finish = |key: &Hashed, group: &Group| group.finish(key.row());
        tell_portion(&self.groups, &mut self.told, finish, time, meter, made)
    }

    fn next(&self) -> Option<Epoch> {
        [self.begins, self.waiting.next()].into_iter().flatten().min()
    }

    fn held(&self) -> Held {
        self.held
    }
}
