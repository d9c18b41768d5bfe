//! A group whose values are kept in order: minima, maxima, and what counts equal values once.

use std::sync::Arc;

use super::super::failure::Failure;
use super::super::numbers::Tally;
use super::super::row::Row;
use super::accumulators::Accumulators;
use super::counts::Counts;
use super::{Contribution, Grouping, Ordered};

/// A group whose values are kept in order. An update costs the logarithm of how many they are.
#[derive(Debug)]
pub struct Group {
    grouping: Arc<Grouping>,
    sum: Accumulators,
    values: Box<[Values]>,
}

/// The values of one argument.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// How often each is there. Less than nothing while changes of one moment come in any order.
    counts: Counts,
    /// Each that is there, once; its sum only where that is asked for.
    pub(super) distinct: Tally,
    /// What the values take.
    bytes: usize,
}

impl Group {
    /// A group without rows.
    pub fn new(grouping: &Arc<Grouping>) -> Self {
        let values = grouping.ordered.iter().map(|_| Values::default()).collect();
        Self { grouping: Arc::clone(grouping), sum: Accumulators::default(), values }
    }

    /// Adds a row so many times, or takes it away.
    pub fn apply(&mut self, contribution: &Contribution, count: i64) {
        self.sum.add_times(&contribution.accumulators, count);
        for ((values, value), ordered) in self.values.iter_mut().zip(&contribution.values).zip(&self.grouping.ordered) {
            if let Some(value) = value {
                values.apply(value, count, ordered);
            }
        }
    }

    /// How many rows it has.
    pub fn rows(&self) -> i64 {
        self.sum.rows()
    }

    /// Whether nothing is left of it.
    pub fn is_empty(&self) -> bool {
        self.sum.is_zero() && self.values.iter().all(|values| values.counts.is_empty())
    }

    /// How many values it keeps in order, equal ones of an argument once, and about how many bytes these and its sums take.
    pub fn held(&self) -> (usize, usize) {
        let values = self.values.iter().map(|values| (values.counts.len(), values.bytes));
        let (count, bytes) = values.fold((0, 0), |(count, bytes), values| (count + values.0, bytes + values.1));
        (count, bytes + self.sum.heap_bytes())
    }

    /// Its row; none without rows, if it is not global.
    pub fn finish(&self, key: &Row) -> Option<Result<Row, Failure>> {
        self.grouping.finish_with(key, &self.sum, &self.values)
    }
}

impl Values {
    fn apply(&mut self, value: &Row, count: i64, ordered: &Ordered) {
        let before = self.counts.get(value);
        let after = before + count;
        // Of an entry: its bytes and the two counts before them, and its place among the others.
        let entry_bytes = value.bytes().len() + 2 * size_of::<usize>() + size_of::<(Row, i64)>();
        match (before == 0, after == 0) {
            (false, true) => self.bytes -= entry_bytes,
            (true, false) => self.bytes += entry_bytes,
            _ => {}
        }
        self.counts.set(value, after);
        match (before > 0, after > 0) {
            (false, true) => self.distinct.add_times(&ordered.tally(value), 1),
            (true, false) => self.distinct.add_times(&ordered.tally(value), -1),
            _ => {}
        }
    }

    pub(super) fn least(&self) -> Option<&Row> {
        self.counts.least()
    }

    pub(super) fn greatest(&self) -> Option<&Row> {
        self.counts.greatest()
    }
}
