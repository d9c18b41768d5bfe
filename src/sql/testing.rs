//! Relations over columns of 64-bit integers, put together by hand: for tests of what renders them.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::program::Program;
use super::relation::{Fingerprint, Operator, Relation};
use super::row::{Codec, Row};

/// The values of a row.
pub(crate) type Values = Vec<Option<i64>>;

/// The names of columns, by their places.
pub(crate) const NAMES: [&str; 4] = ["a", "b", "c", "d"];

static CODECS: LazyLock<[Codec; 5]> = LazyLock::new(|| [0, 1, 2, 3, 4].map(|columns| Codec::new(integers(columns))));

/// So many columns.
pub(crate) fn integers(columns: usize) -> SchemaRef {
    let fields = NAMES[..columns].iter().map(|name| Field::new(*name, DataType::Int64, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A row of these values.
pub(crate) fn row(values: &[Option<i64>]) -> Row {
    let columns: Vec<_> = values.iter().map(|value| Arc::new(Int64Array::from(vec![*value])) as ArrayRef).collect();
    CODECS[values.len()].encode(&columns, 1).swap_remove(0)
}

/// The values of a row of so many columns.
pub(crate) fn values(row: &Row, columns: usize) -> Values {
    let batch = CODECS[columns].decode([row].into_iter());
    let column = |array: &ArrayRef| {
        let array = array.as_primitive::<Int64Type>();
        array.is_valid(0).then(|| array.value(0))
    };
    batch.columns().iter().map(column).collect()
}

/// A program over so many columns that makes columns of these expressions.
pub(crate) fn program(columns: usize, filters: &[&str], outputs: &[&str]) -> Arc<Program> {
    let columns: Vec<_> = NAMES[..columns].iter().map(|name| (*name, DataType::Int64)).collect();
    let outputs: Vec<_> = NAMES.into_iter().zip(outputs.iter().copied()).collect();
    Arc::new(Program::parse(&columns, filters, &outputs))
}

/// A relation of so many columns; `words` tell it from others.
pub(crate) fn relation(operator: Operator, columns: usize, words: &str) -> Arc<Relation> {
    Arc::new(Relation { operator, schema: integers(columns), fingerprint: Fingerprint::of(words) })
}
