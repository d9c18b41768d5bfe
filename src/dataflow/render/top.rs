//! The first rows of each group, numbered if asked for.
//!
//! All rows of all groups are in one ordered map, by group, order and row: a small group costs no more than its rows. A
//! change that comes behind the rows that are shown is put into the map and that is all; another one costs a look at
//! those that are shown before and after it, never at the rest.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;

use differential_dataflow::VecCollection;
use differential_dataflow::consolidation::consolidate_updates;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;

use super::evaluate::{Made, Outcome, Repeats, evaluate};
use super::hashed::Hashed;
use super::hydration::{Hydration, PORTION};
use super::in_order::{InOrder, Waiting, in_order};
use crate::dataflow::index::HashKeys;
use crate::dataflow::meter::{Held, Meter, bytes_of};
use crate::dataflow::shared_batch::Diff;
use crate::model::Epoch;
use crate::sql::{Row, Standing, Top};

/// A row's group, what sorts it there, and the row itself.
type Place = (Hashed, Order, Row);

/// What sorts a row in its group. Its first bytes are at hand, and most comparisons look at no others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Order {
    /// As a number that sorts as they do.
    first: u64,
    whole: Row,
}

impl Order {
    fn new(whole: Row) -> Self {
        let mut first = [0; size_of::<u64>()];
        let bytes = whole.bytes();
        let count = bytes.len().min(first.len());
        first[..count].copy_from_slice(&bytes[..count]);
        // Bytes that are missing sort before all others, and where they are zeros the whole decides.
        Self { first: u64::from_be_bytes(first), whole }
    }
}

/// The first rows of each group.
pub(super) fn top<'scope>(
    rows: VecCollection<'scope, Epoch, Row, Diff>,
    top: &Arc<Top>,
    keys: HashKeys,
    evaluating: Arc<Meter>,
    ranking: Arc<Meter>,
    hydration: Hydration,
) -> Outcome<'scope, Epoch, Row, Diff> {
    let standing = Arc::clone(top);
    let places = move |rows: &[&Row]| {
        let standings = standing.run(rows);
        let place = |(at, Standing { partition, order }): (usize, Standing)| {
            (at, (Hashed::new(keys, partition), Order::new(order), rows[at].clone()))
        };
        Made { rows: standings.rows.into_iter().map(place).collect(), failures: standings.failures }
    };
    let (places, failures) =
        evaluate(rows, "Standings", evaluating, Repeats::Seldom, places, |place: Place, count| (place, count));
    let by_partition = Exchange::new(|update: &(Place, Epoch, Diff)| update.0.0.route());
    let operator = Ranking::new(Arc::clone(top));
    (in_order(places.inner, by_partition, "Top", ranking, operator, Some(hydration)), failures)
}

/// All rows in order.
struct Ranking {
    top: Arc<Top>,
    waiting: Waiting<Place, Diff>,
    counts: BTreeMap<Place, Diff>,
    held: Held,
    /// Sort before all others.
    least: (Order, Row),
    /// The last row that was told, of those that were taken in silently, and how many its group has up to it.
    told: Option<(Place, usize)>,
}

/// What an entry takes. All entries of a group share its row.
fn entry_bytes((_, order, row): &Place) -> usize {
    size_of::<(Hashed, u64, Diff)>() + bytes_of(&order.whole) + bytes_of(row)
}

impl Ranking {
    fn new(top: Arc<Top>) -> Self {
        let (waiting, counts, held) = (Waiting::new(), BTreeMap::new(), Held::default());
        Self { top, waiting, counts, held, least: (Order::new(Row::empty()), Row::empty()), told: None }
    }

    /// The rows of a group in order, with how often each is there.
    fn group<'a>(&'a self, partition: &Hashed) -> impl Iterator<Item = (&'a Place, Diff)> {
        let (order, row) = self.least.clone();
        let first = (partition.clone(), order, row);
        let partition = partition.clone();
        let from_first = self.counts.range((Bound::Included(first), Bound::Unbounded));
        from_first.take_while(move |(place, _)| place.0 == partition).map(|(place, count)| (place, *count))
    }

    /// Whether a change at `place` is behind all rows that are shown of its group, so that these stay as they are. How
    /// many entries were looked at is added to `steps`.
    fn is_behind(&self, place: &Place, steps: &mut usize) -> bool {
        let Some(limit) = self.top.limit() else { return false };
        let mut rest = Diff::try_from(self.top.offset().saturating_add(limit)).unwrap_or(Diff::MAX);
        for (before, count) in self.group(&place.0) {
            *steps += 1;
            if before >= place {
                return false;
            }
            rest -= count;
            if rest <= 0 {
                return true;
            }
        }
        false
    }

    /// The rows of a group after the first `passed`, at most `limit`, each as often as it is there.
    fn some(&self, partition: &Hashed, mut passed: usize, limit: usize, steps: &mut usize) -> Vec<Row> {
        let mut some = Vec::new();
        for ((_, _, row), count) in self.group(partition) {
            if some.len() == limit {
                break;
            }
            *steps += 1;
            let count = usize::try_from(count).expect("a row is there or has no entry");
            let over = count.saturating_sub(passed);
            passed -= count - over;
            some.extend(std::iter::repeat_n(row, over.min(limit - some.len())).cloned());
        }
        some
    }

    /// What waits for a time before `until`: group by group, then by time, then in order.
    fn grouped_until(&mut self, until: Epoch) -> impl Iterator<Item = (Place, Epoch, Diff)> + use<> {
        let mut updates: Vec<_> = self.waiting.until(until).collect();
        updates.sort_by(|(a, at, _), (b, bt, _)| a.0.cmp(&b.0).then(at.cmp(bt)));
        updates.into_iter()
    }

    /// Changes how often a row is there.
    fn change(&mut self, place: Place, change: Diff) {
        match self.counts.entry(place) {
            Entry::Vacant(entry) => {
                assert!(change > 0, "a row is taken away that is not there");
                self.held.add(entry_bytes(entry.key()));
                entry.insert(change);
            }
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += change;
                assert!(*entry.get() >= 0, "a row is taken away more often than it is there");
                if *entry.get() == 0 {
                    let (place, _) = entry.remove_entry();
                    self.held.remove(entry_bytes(&place));
                }
            }
        }
    }

    /// Changes how often rows of a group are there, whose row is in memory already.
    fn change_all(&mut self, changes: Vec<(Place, Diff)>, partition: &Hashed) {
        for ((_, order, row), change) in changes {
            self.change((partition.clone(), order, row), change);
        }
    }

    /// The row of a group, the one that is in memory already if there is one.
    fn known(&self, partition: &Hashed) -> Hashed {
        self.group(partition).next().map_or_else(|| partition.clone(), |(place, _)| place.0.clone())
    }

    /// Applies what changes in one group at one time, in order.
    fn change_group(
        &mut self,
        changes: Vec<(Place, Diff)>,
        time: Epoch,
        steps: &mut usize,
        made: &mut Vec<(Row, Epoch, Diff)>,
    ) {
        let Some((first, _)) = changes.first() else { return };
        let partition = self.known(&first.0);
        if self.is_behind(first, steps) {
            // So are all that come after it.
            self.change_all(changes, &partition);
            return;
        }
        let (offset, is_numbered) = (self.top.offset(), self.top.is_numbered());
        // Where all but the first are shown, without numbers, the first are fewer to look at.
        let (passed, limit, sign) = match self.top.limit() {
            None if !is_numbered => {
                made.extend(changes.iter().map(|((_, _, row), change)| (row.clone(), time, *change)));
                (0, offset, -1)
            }
            limit => (offset, limit.unwrap_or(usize::MAX), 1),
        };
        let before = self.some(&partition, passed, limit, steps);
        self.change_all(changes, &partition);
        let after = self.some(&partition, passed, limit, steps);
        for index in 0..before.len().max(after.len()) {
            let (before, after) = (before.get(index), after.get(index));
            if before != after {
                let number = (passed + index) as u64 + 1;
                made.extend(before.map(|row| (self.top.numbered(row, number), time, -sign)));
                made.extend(after.map(|row| (self.top.numbered(row, number), time, sign)));
            }
        }
    }
}

impl InOrder for Ranking {
    type Datum = Place;
    type Weight = Diff;
    type Made = Row;

    fn take(&mut self, updates: &mut Vec<(Place, Epoch, Diff)>) {
        self.waiting.put(updates);
    }

    fn act(&mut self, until: Epoch, meter: &Meter, made: &mut Vec<(Row, Epoch, Diff)>) {
        let mut updates = self.grouped_until(until).peekable();
        let mut steps = 0;
        while let Some((place, time, _)) = updates.peek() {
            let (partition, time) = (place.0.clone(), *time);
            let changes = std::iter::from_fn(|| updates.next_if(|(place, at, _)| place.0 == partition && *at == time));
            let changes: Vec<_> = changes.map(|(place, _, change)| (place, change)).collect();
            self.change_group(changes, time, &mut steps, made);
        }
        meter.stepped(steps);
        // A row that is not numbered and moved among the others did not change.
        consolidate_updates(made);
    }

    fn absorb(&mut self, until: Epoch, meter: &Meter) {
        let (mut partition, mut steps) = (None, 0);
        for ((of, order, row), _time, change) in self.grouped_until(until) {
            let known = partition.take_if(|known| *known == of).unwrap_or_else(|| self.known(&of));
            self.change((known.clone(), order, row), change);
            (partition, steps) = (Some(known), steps + 1);
        }
        meter.stepped(steps);
    }

    fn tell_portion(&mut self, time: Epoch, meter: &Meter, made: &mut Vec<(Row, Epoch, Diff)>) -> bool {
        let (offset, limit) = (self.top.offset(), self.top.limit().unwrap_or(usize::MAX));
        let (last, mut stands) = self.told.take().map_or((None, 0), |(place, stands)| (Some(place), stands));
        let after = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.counts.range::<Place, _>((after, Bound::Unbounded));
        let mut looked_at: Option<&Place> = last.as_ref();
        let mut steps = 0;
        for (place, count) in rest.by_ref().take(PORTION) {
            if looked_at.is_none_or(|before| before.0 != place.0) {
                stands = 0;
            }
            let before = stands;
            stands += usize::try_from(*count).expect("a row is there or has no entry");
            for index in before.max(offset)..stands.min(offset.saturating_add(limit)) {
                made.push((self.top.numbered(&place.2, index as u64 + 1), time, 1));
            }
            (looked_at, steps) = (Some(place), steps + 1);
        }
        meter.stepped(steps);
        let more = rest.next().is_some();
        self.told = looked_at.filter(|_| more).map(|place| (place.clone(), stands));
        more
    }

    fn next(&self) -> Option<Epoch> {
        self.waiting.next()
    }

    fn held(&self) -> Held {
        self.held
    }
}
