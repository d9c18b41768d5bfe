//! The one row type of all collections: bytes that sort as the values do.
//!
//! A codec is a list of columns with the order of each. Since every column's encoding says where it ends, the bytes of
//! two rows laid end to end are the row of both their columns.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::downcast_primitive_array;
use datafusion::arrow::row::{RowConverter, SortField};
use serde::{Deserialize, Serialize};

/// A row of some codec's columns.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
// Tests count comparisons (`testing`).
#[cfg_attr(not(test), derive(PartialOrd, Ord))]
pub struct Row(Arc<[u8]>);

impl Row {
    /// The row without columns.
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The row of the columns of both.
    pub fn concat(&self, other: &Self) -> Self {
        Self([self.bytes(), other.bytes()].concat().into())
    }
}

impl From<&[u8]> for Row {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The columns of rows, and how each is sorted.
#[derive(Clone)]
pub struct Codec {
    schema: SchemaRef,
    options: Arc<[SortOptions]>,
    converter: Arc<RowConverter>,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.schema.fields().iter().map(|field| field.name())).finish()
    }
}

impl Codec {
    /// Rows of these columns, sorted ascending with nulls first. Panics if a type is not supported.
    pub fn new(schema: SchemaRef) -> Self {
        let options = vec![SortOptions::default(); schema.fields().len()];
        Self::sorted(schema, &options)
    }

    /// Whether rows can have a column of this type.
    pub fn supports(kind: &DataType) -> bool {
        RowConverter::supports_fields(&[SortField::new(kind.clone())])
    }

    /// Rows of these columns, each sorted its own way. Panics if a type is not supported.
    pub fn sorted(schema: SchemaRef, options: &[SortOptions]) -> Self {
        let fields = schema.fields().iter().zip(options);
        let fields = fields.map(|(field, options)| SortField::new_with_options(field.data_type().clone(), *options));
        let converter = RowConverter::new(fields.collect()).expect("columns of types that have an order");
        Self { schema, options: options.into(), converter: Arc::new(converter) }
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether all columns are sorted ascending with nulls first, as those of relations are.
    pub fn is_default(&self) -> bool {
        self.options.iter().all(|options| *options == SortOptions::default())
    }

    /// How each column is sorted.
    pub fn options(&self) -> &[SortOptions] {
        &self.options
    }

    /// Rows of one of the columns alone: what is theirs in a whole row.
    pub fn column(&self, place: usize) -> Self {
        let schema = self.schema.project(&[place]).expect("a column of the codec");
        Self::sorted(Arc::new(schema), &self.options[place..=place])
    }

    /// The rows of `count` values in each of the columns.
    pub fn encode(&self, columns: &[ArrayRef], count: usize) -> Vec<Row> {
        if columns.is_empty() {
            return vec![Row::empty(); count];
        }
        let rows = self.converter.convert_columns(columns).expect("columns of the codec");
        rows.iter().map(|row| Row::from(row.data())).collect()
    }

    /// The columns of rows that this codec made.
    pub fn decode<'a>(&self, rows: impl ExactSizeIterator<Item = &'a Row>) -> RecordBatch {
        let count = rows.len();
        let columns = if self.schema.fields().is_empty() {
            Vec::new()
        } else {
            let parser = self.converter.parser();
            let columns = self.converter.convert_rows(rows.map(|row| parser.parse(row.bytes())));
            columns.expect("rows of the codec").into_iter().map(with_zeros_as_nulls).collect()
        };
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).expect("columns of the codec")
    }
}

/// The same column with zeros where it is null. The row format leaves the least number there, and some of DataFusion's
/// functions compute on what is null too, and fail on that.
fn with_zeros_as_nulls(column: ArrayRef) -> ArrayRef {
    fn with_zeros<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>, nulls: &NullBuffer) -> ArrayRef {
        let values = column.values().iter().zip(nulls).map(|(value, is_there)| match is_there {
            true => *value,
            false => T::default_value(),
        });
        let zeroed = PrimitiveArray::<T>::new(values.collect(), Some(nulls.clone()));
        Arc::new(zeroed.with_data_type(column.data_type().clone()))
    }
    let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) else {
        return column;
    };
    let values = &*column;
    downcast_primitive_array!(
        values => with_zeros(values, nulls),
        _ => column
    )
}
