//! `GROUP BY`: what a row adds to its group, and the row that a group makes.
//!
//! Counts, sums, averages and the like ride in the difference: [`Accumulators`] add up and cancel exactly, so a retraction
//! leaves no trace. Minima, maxima and distinct values need all values in order, which a [`Group`] keeps.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::row::Row;

/// How rows become groups and groups become rows.
#[derive(Debug)]
pub struct Grouping {}

/// What one row adds, or what all rows of a group add up to. Equal sums are equal values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Accumulators {}

/// What a row is for its group.
#[derive(Debug, Clone)]
pub struct Contribution {
    /// The group.
    pub key: Row,
    /// What it adds.
    pub accumulators: Accumulators,
    /// Its value for each aggregate that needs values in order; none where it counts for nothing (null, filtered).
    pub values: Box<[Option<Row>]>,
}

/// What became of some rows.
#[derive(Debug, Default)]
pub struct Contributions {
    /// With the places of the rows, in order.
    pub rows: Vec<(usize, Contribution)>,
    /// The rows that could not be evaluated.
    pub failures: Vec<(usize, Failure)>,
}

impl Grouping {
    /// Evaluates keys and arguments of rows of the input's codec.
    pub fn run(&self, rows: &[&Row]) -> Contributions {
        todo!("{rows:?}")
    }

    /// Whether all aggregates ride in the difference, so that no [`Group`] is needed.
    pub fn is_accumulable(&self) -> bool {
        todo!()
    }

    /// Whether there is one group, which is there without any row too (`SELECT count(*) FROM ..`).
    pub fn is_global(&self) -> bool {
        todo!()
    }

    /// The accumulators of no row.
    pub fn nothing(&self) -> Accumulators {
        todo!()
    }

    /// The row of a group whose aggregates all ride in the difference; none for a group without rows that is not global.
    pub fn finish(&self, key: &Row, sum: &Accumulators) -> Option<Result<Row, Failure>> {
        todo!("{key:?} {sum:?}")
    }
}

impl Accumulators {
    /// Adds another one's.
    pub fn add(&mut self, other: &Self) {
        todo!("{other:?}")
    }

    /// So many times the same; negative takes away.
    pub fn times(&self, count: i64) -> Self {
        todo!("{count}")
    }

    /// How many rows they are of.
    pub fn rows(&self) -> i64 {
        todo!()
    }

    /// Whether it adds nothing at all, not even a row.
    pub fn is_zero(&self) -> bool {
        todo!()
    }
}

/// A group whose values are kept in order. An update costs the logarithm of how many they are.
#[derive(Debug)]
pub struct Group {}

impl Group {
    /// A group without rows.
    pub fn new(grouping: &Arc<Grouping>) -> Self {
        todo!("{grouping:?}")
    }

    /// Adds a row so many times, or takes it away.
    pub fn apply(&mut self, contribution: &Contribution, count: i64) {
        todo!("{contribution:?} {count}")
    }

    /// Whether nothing is left of it.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Its row; none without rows, if it is not global.
    pub fn finish(&self, key: &Row) -> Option<Result<Row, Failure>> {
        todo!("{key:?}")
    }
}
