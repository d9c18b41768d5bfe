//! A group whose values are kept in order: minima, maxima, and what counts equal values once.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::failure::Failure;
use super::super::numbers::Tally;
use super::super::row::Row;
use super::accumulators::Accumulators;
use super::{Contribution, Grouping, Ordered};

/// A group whose values are kept in order. An update costs the logarithm of how many they are.
#[derive(Debug)]
pub struct Group {
    grouping: Arc<Grouping>,
    sum: Accumulators,
    values: Box<[Values]>,
    /// What the values take.
    bytes: usize,
}

/// The values of one argument.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// How often each is there. Less than nothing while changes of one moment come in any order.
    counts: BTreeMap<Row, i64>,
    /// Each that is there, once; its sum only where that is asked for.
    pub(super) distinct: Tally,
}

impl Group {
    /// A group without rows.
    pub fn new(grouping: &Arc<Grouping>) -> Self {
        let values = grouping.ordered.iter().map(|_| Values::default()).collect();
        Self { grouping: Arc::clone(grouping), sum: Accumulators::default(), values, bytes: 0 }
    }

    /// Adds a row so many times, or takes it away.
    pub fn apply(&mut self, contribution: &Contribution, count: i64) {
        self.sum.add_times(&contribution.accumulators, count);
        for ((values, value), ordered) in self.values.iter_mut().zip(&contribution.values).zip(&self.grouping.ordered) {
            if let Some(value) = value {
                let before = values.counts.len();
                values.apply(value, count, ordered);
                let bytes = size_of::<(Row, i64)>() + value.bytes().len();
                match values.counts.len().cmp(&before) {
                    Ordering::Less => self.bytes -= bytes,
                    Ordering::Equal => {}
                    Ordering::Greater => self.bytes += bytes,
                }
            }
        }
    }

    /// How many rows it has.
    pub fn rows(&self) -> i64 {
        self.sum.rows()
    }

    /// About how many bytes its values take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is left of it.
    pub fn is_empty(&self) -> bool {
        self.sum.is_zero() && self.values.iter().all(|values| values.counts.is_empty())
    }

    /// Its row; none without rows, if it is not global.
    pub fn finish(&self, key: &Row) -> Option<Result<Row, Failure>> {
        self.grouping.finish_with(key, &self.sum, &self.values)
    }
}

impl Values {
    fn apply(&mut self, value: &Row, count: i64, ordered: &Ordered) {
        let before = self.counts.get(value).copied().unwrap_or(0);
        let after = before + count;
        if after == 0 {
            self.counts.remove(value);
        } else if before == 0 {
            self.counts.insert(value.clone(), after);
        } else if let Some(known) = self.counts.get_mut(value) {
            *known = after;
        }
        match (before > 0, after > 0) {
            (false, true) => self.distinct.add_times(&ordered.tally(value), 1),
            (true, false) => self.distinct.add_times(&ordered.tally(value), -1),
            _ => {}
        }
    }

    pub(super) fn least(&self) -> Option<&Row> {
        self.counts.iter().find(|(_, count)| **count > 0).map(|(value, _)| value)
    }

    pub(super) fn greatest(&self) -> Option<&Row> {
        self.counts.iter().rev().find(|(_, count)| **count > 0).map(|(value, _)| value)
    }
}
