//! `ORDER BY .. LIMIT` of everything, and of each group (`ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) <= k`).
//!
//! Rows are ordered by the expressions, then by all their columns, ascending: there are no ties.

use super::failure::Failure;
use super::row::Row;

/// Which rows are the first of their group.
#[derive(Debug)]
pub struct Top {}

/// Where a row stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its group; the row without columns where there is one group.
    pub partition: Row,
    /// Sorts it in its group; rows of which this is equal are sorted by themselves.
    pub order: Row,
}

/// What became of some rows.
#[derive(Debug, Default)]
pub struct Standings {
    /// With the places of the rows, in order.
    pub rows: Vec<(usize, Standing)>,
    /// The rows that could not be evaluated.
    pub failures: Vec<(usize, Failure)>,
}

impl Top {
    /// Where rows of the input's codec stand.
    pub fn run(&self, rows: &[&Row]) -> Standings {
        todo!("{rows:?}")
    }

    /// How many rows are passed over first.
    pub fn offset(&self) -> usize {
        todo!()
    }

    /// How many rows of a group are kept after these; none: all (an offset alone).
    pub fn limit(&self) -> Option<usize> {
        todo!()
    }

    /// The row as it is put out, being the `number`th of its group (from 1, `offset` included): with its number as last
    /// column where that was asked for.
    pub fn numbered(&self, row: &Row, number: u64) -> Row {
        todo!("{row:?} {number}")
    }
}
