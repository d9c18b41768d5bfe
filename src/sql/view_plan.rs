//! A view as it is to be maintained: what the dataflow renders, and how its rows are stored and shown.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};

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

impl ViewPlan {
    /// The columns as selected.
    pub fn selected_schema(&self) -> SchemaRef {
        let stored = self.codec.schema();
        let fields = self.columns.iter().map(|column| stored.field(column.place).clone().with_name(&column.name));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Stored columns as they were selected.
    pub fn selected(&self, stored: &RecordBatch) -> RecordBatch {
        let columns = self.columns.iter().map(|column| Arc::clone(stored.column(column.place))).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(stored.num_rows()));
        RecordBatch::try_new_with_options(self.selected_schema(), columns, &options).expect("the same columns")
    }
}
