//! What those who follow a view or the resources are told of an epoch: what changed of that which they chose.
//!
//! Pure: out of the changes of the recent past come, for a view, the rows that left and came ([`passing`]) or an
//! after-image by key ([`keys`]), and for resources an after-image by id ([`resources`]). What is told of an epoch depends
//! on nothing but what changed in it, so it is the same however often it is asked for, and after a restart. Several epochs
//! make one ([`coalesced`]). Not here: what is told to whom, and in what words (`http`).

pub mod keys;
pub mod resources;

use super::history::RowChanges;
use crate::dataflow::Diff;
use crate::sql::{Reading, Row};

/// The changes of the rows that pass; epochs without any are left out.
pub fn passing(reading: &Reading, changes: Vec<RowChanges>) -> Vec<RowChanges> {
    let all: Vec<&Row> = changes.iter().flat_map(|(_, rows)| rows).map(|(row, _)| row).collect();
    let mut passes = reading.passing(&all).into_iter();
    let passing = changes.into_iter().map(|(epoch, rows)| {
        let rows: Vec<(Row, Diff)> = rows.into_iter().filter(|_| passes.next().unwrap_or(false)).collect();
        (epoch, rows)
    });
    passing.filter(|(_, rows)| !rows.is_empty()).collect()
}

/// What changed over all of some epochs, in order of the rows.
pub fn coalesced(changes: Vec<RowChanges>) -> Vec<(Row, Diff)> {
    let mut all: Vec<(Row, Diff)> = changes.into_iter().flat_map(|(_, rows)| rows).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    let mut sums: Vec<(Row, Diff)> = Vec::new();
    for (row, diff) in all {
        match sums.last_mut().filter(|(last, _)| *last == row) {
            Some((_, sum)) => *sum += diff,
            None => sums.push((row, diff)),
        }
    }
    sums.retain(|(_, sum)| *sum != 0);
    sums
}
