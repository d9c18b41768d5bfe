//! A view as it is to be maintained: what the dataflow renders, and how its rows are stored and shown.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;

use super::program::Program;
use super::relation::{Fingerprint, Relation};
use super::row::Codec;

/// A view.
#[derive(Debug)]
pub struct ViewPlan {
    /// Its name: that of its file.
    pub name: Arc<str>,
    /// What its leading comment says.
    pub description: String,
    /// Its text.
    pub sql: String,
    /// What it computes.
    pub relation: Arc<Relation>,
    /// Makes of a row of the relation the row that is stored: the `ORDER BY` expressions first, then all other columns as
    /// selected, so that bytes sort as the view does.
    pub stored: Arc<Program>,
    /// Of the stored rows.
    pub codec: Codec,
    /// The columns as selected.
    pub columns: Vec<ViewColumn>,
    /// The views that it reads, each once.
    pub reads: Vec<Arc<str>>,
    /// Of its meaning: that of what it reads included.
    pub fingerprint: Fingerprint,
    /// The optimised plan, for people.
    pub plan: String,
}

/// A column of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: DataType,
    /// Its place in the stored row.
    pub place: usize,
}
