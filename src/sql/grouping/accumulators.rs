//! What rows add to their group, as a difference: it is added up, cancels exactly, and equal sums are equal values.

use serde::{Deserialize, Serialize};

use super::super::numbers::Tally;

/// What one row adds, or what all rows of a group add up to. Equal sums are equal values.
///
/// Its tallies mean something to the grouping alone that made it. The default is the sum of no row, of any grouping.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Accumulators {
    rows: i64,
    /// None if all of them are zero, so that what counts rows alone needs no memory beside itself.
    tallies: Box<[Tally]>,
}

impl Accumulators {
    /// Of one row.
    pub(super) fn of_row(tallies: impl Iterator<Item = Tally>) -> Self {
        let mut row = Self { rows: 1, tallies: tallies.collect() };
        row.drop_zeros();
        row
    }

    /// Adds another one's.
    pub fn add(&mut self, other: &Self) {
        self.add_times(other, 1);
    }

    /// So many times the same; negative takes away.
    pub fn times(&self, count: i64) -> Self {
        let mut product = Self::default();
        product.add_times(self, count);
        product
    }

    /// Adds so many times another one's, or takes them away.
    pub fn add_times(&mut self, other: &Self, count: i64) {
        self.rows += other.rows * count;
        if other.tallies.is_empty() {
            return;
        }
        if self.tallies.is_empty() {
            self.tallies = other.tallies.iter().map(|_| Tally::ZERO).collect();
        }
        assert_eq!(self.tallies.len(), other.tallies.len(), "sums of one grouping");
        self.tallies.iter_mut().zip(&other.tallies).for_each(|(sum, tally)| sum.add_times(tally, count));
        self.drop_zeros();
    }

    /// Whether it adds nothing at all, not even a row.
    pub fn is_zero(&self) -> bool {
        self.rows == 0 && self.tallies.is_empty()
    }

    /// How many rows they are of.
    pub fn rows(&self) -> i64 {
        self.rows
    }

    /// How many bytes they take beside themselves, but for what sums of the widest range take.
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.tallies)
    }

    pub(super) fn tally(&self, place: usize) -> &Tally {
        const NOTHING: &Tally = &Tally::ZERO;
        self.tallies.get(place).unwrap_or(NOTHING)
    }

    fn drop_zeros(&mut self) {
        if self.tallies.iter().all(Tally::is_zero) {
            self.tallies = Box::default();
        }
    }
}
