//! Rows by which others are found, with their hashes: the hash says which worker has a row, and comes first in their
//! order.
//!
//! Nobody asks for these rows in their own order. Hashes stand side by side where the bytes of rows are behind a pointer
//! each, so a search or a merge among millions seldom looks at a row at all.

use serde::{Deserialize, Serialize};

use crate::dataflow::index::HashKeys;
use crate::dataflow::meter::bytes_of;
use crate::sql::Row;

/// A row with its hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(in crate::dataflow) struct Hashed {
    hash: u64,
    row: Row,
}

impl Hashed {
    pub(super) fn new(keys: HashKeys, row: Row) -> Self {
        Self { hash: keys.route(&row), row }
    }

    /// Which worker has it: the one whose index this is, by the number of workers.
    pub(super) fn route(&self) -> u64 {
        self.hash
    }

    pub(super) fn row(&self) -> &Row {
        &self.row
    }

    pub(super) fn into_row(self) -> Row {
        self.row
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        bytes_of(&self.row) + size_of::<u64>()
    }
}
