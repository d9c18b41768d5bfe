//! The tables that queries read: columns made of states and of rejects.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::failure::Failure;
use crate::model::{QuarantineEntry, ResourceId, State};

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableKind {
    /// `resources`: current and live.
    Resources,
    /// `orphaned_resources`: live, and another id holds their reporter key.
    Orphaned,
    /// `deleted_resources`: tombstones that are remembered.
    Deleted,
    /// `quarantine`: rejected records.
    Quarantine,
    /// Current and live resources of a type, with its columns: `host`, `k8s_cluster`, ...
    Typed(Arc<str>),
}

/// A table.
#[derive(Debug)]
pub struct Table {
    /// What it holds.
    pub kind: TableKind,
    /// Its columns.
    pub schema: SchemaRef,
}

/// A resource as tables see it.
#[derive(Debug, Clone, Copy)]
pub struct Resource<'a> {
    /// Its state.
    pub state: &'a State,
    /// Who took its place, if it is an orphan.
    pub orphaned_by: Option<ResourceId>,
}

/// Columns of some entries.
#[derive(Debug)]
pub struct Columns {
    /// A row for each entry that could be read.
    pub batch: RecordBatch,
    /// Which entries these are, in order.
    pub places: Vec<usize>,
    /// The entries that could not: a value of another type than declared.
    pub failures: Vec<(usize, Failure)>,
}

/// Parts of a state from which columns come, to tell which changes matter to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts(u32);

impl Parts {
    /// All of them.
    pub const ALL: Self = Self(u32::MAX);
    /// Who took an orphan's place; no part of a state.
    pub const ORPHANED_BY: Self = Self(1);

    /// Those of either.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether they have one in common.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The parts in which two states of one resource differ. What decides in which table a resource stands is not among
    /// them: see [`Table::holds`].
    pub fn changed(before: &State, after: &State) -> Self {
        todo!("{before:?} {after:?}")
    }
}

impl Table {
    /// Whether a resource stands in it.
    pub fn holds(&self, resource: Resource<'_>) -> bool {
        todo!("{resource:?}")
    }

    /// Where these columns come from.
    pub fn parts(&self, columns: &[usize]) -> Parts {
        todo!("{columns:?}")
    }

    /// These columns of resources that stand in it.
    pub fn of_resources(&self, columns: &[usize], resources: &[Resource<'_>]) -> Columns {
        todo!("{columns:?} {resources:?}")
    }

    /// These columns of rejects; for [`TableKind::Quarantine`] alone.
    pub fn of_rejects(&self, columns: &[usize], rejects: &[&QuarantineEntry]) -> Columns {
        todo!("{columns:?} {rejects:?}")
    }
}
