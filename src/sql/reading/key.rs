//! Some columns of a view by which somebody tells its rows apart.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};

use super::ReadingError;
use crate::sql::canonical::canonical;
use crate::sql::row::{Codec, Row};
use crate::sql::view_plan::ViewPlan;

/// The columns of a key.
#[derive(Debug)]
pub struct KeyColumns {
    stored: Codec,
    places: Vec<usize>,
    schema: SchemaRef,
    codec: Codec,
}

impl KeyColumns {
    /// These columns of a view.
    pub fn new(plan: &ViewPlan, names: &[String]) -> Result<Self, ReadingError> {
        let mut places = Vec::new();
        let mut fields = Vec::new();
        for name in names {
            let column = plan.columns.iter().find(|column| column.name == *name);
            let column = column.ok_or_else(|| ReadingError::unknown(plan, name))?;
            places.push(column.place);
            fields.push(plan.codec.schema().field(column.place).clone().with_name(name));
        }
        let schema = Arc::new(Schema::new(fields));
        let codec = Codec::new(Arc::clone(&schema));
        Ok(Self { stored: plan.codec.clone(), places, schema, codec })
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The keys of rows: equal bytes, equal keys.
    pub fn keys(&self, rows: &[&Row]) -> Vec<Row> {
        let columns: Vec<ArrayRef> = self.of(rows).iter().map(canonical).collect();
        self.codec.encode(&columns, rows.len())
    }

    /// The columns of the keys of rows.
    pub fn columns(&self, rows: &[&Row]) -> RecordBatch {
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let columns = self.of(rows);
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).expect("the same columns")
    }

    fn of(&self, rows: &[&Row]) -> Vec<ArrayRef> {
        let batch = self.stored.decode(rows.iter().copied());
        self.places.iter().map(|place| Arc::clone(batch.column(*place))).collect()
    }
}
