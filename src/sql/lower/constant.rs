//! Rows that stand in the query itself.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Values;

use super::{physical, relation};
use crate::sql::refusal::Objection;
use crate::sql::relation::{Operator, Relation};
use crate::sql::row::{Codec, Row};

/// So many rows without a value.
pub(super) fn nothing(rows: usize, schema: SchemaRef) -> Arc<Relation> {
    let nulls: Vec<ArrayRef> =
        schema.fields().iter().map(|field| datafusion::arrow::array::new_null_array(field.data_type(), rows)).collect();
    let rows = Codec::new(Arc::clone(&schema)).encode(&nulls, rows);
    constant(rows, schema)
}

/// `VALUES`.
pub(super) fn values(values: &Values, schema: &SchemaRef) -> Result<Arc<Relation>, Objection> {
    let codec = Codec::new(Arc::clone(schema));
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let nowhere =
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).expect("no columns");
    let mut rows = Vec::new();
    for row in &values.values {
        let mut columns = Vec::new();
        for (value, field) in row.iter().zip(schema.fields()) {
            let value = physical(value, &DFSchema::empty())?.evaluate(&nowhere)?.into_array(1)?;
            let value = datafusion::arrow::compute::cast(&value, field.data_type());
            columns.push(value.map_err(datafusion::error::DataFusionError::from)?);
        }
        rows.extend(codec.encode(&columns, 1));
    }
    Ok(constant(rows, Arc::clone(schema)))
}

fn constant(rows: Vec<Row>, schema: SchemaRef) -> Arc<Relation> {
    // Rows of no columns are written as nothing, so their number is said too.
    let description = format!("constant of {}: {rows:?}", rows.len());
    relation(&description, schema, Vec::new(), |_| Operator::Constant { rows })
}
