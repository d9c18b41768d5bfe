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

    /// Whether rows can have a column of this type, and give it back as it was. Of what the row format takes, dictionaries
    /// and runs come back as plain values, which are of another type, and unions and views of lists not in every form.
    pub fn supports(kind: &DataType) -> bool {
        match kind {
            DataType::Dictionary(..)
            | DataType::RunEndEncoded(..)
            | DataType::Union(..)
            | DataType::ListView(_)
            | DataType::LargeListView(_) => false,
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::Map(item, _) => Self::supports(item.data_type()),
            DataType::Struct(fields) => fields.iter().all(|field| Self::supports(field.data_type())),
            simple => RowConverter::supports_fields(&[SortField::new(simple.clone())]),
        }
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

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::new_null_array;
    use datafusion::arrow::datatypes::{Field, Fields, IntervalUnit, Schema, TimeUnit, UnionFields, UnionMode};

    use super::*;
    use crate::sql::Format;

    /// Every type that Arrow has, in one form each.
    fn kinds() -> Vec<DataType> {
        use DataType::*;
        let simple = vec![
            Null,
            Boolean,
            Int8,
            Int16,
            Int32,
            Int64,
            UInt8,
            UInt16,
            UInt32,
            UInt64,
            Float16,
            Float32,
            Float64,
            Timestamp(TimeUnit::Second, Some("+02:00".into())),
            Timestamp(TimeUnit::Nanosecond, None),
            Date32,
            Date64,
            Time32(TimeUnit::Millisecond),
            Time64(TimeUnit::Nanosecond),
            Duration(TimeUnit::Microsecond),
            Interval(IntervalUnit::YearMonth),
            Interval(IntervalUnit::DayTime),
            Interval(IntervalUnit::MonthDayNano),
            Binary,
            FixedSizeBinary(3),
            LargeBinary,
            BinaryView,
            Utf8,
            LargeUtf8,
            Utf8View,
            Decimal32(5, 2),
            Decimal64(10, 2),
            Decimal128(20, 2),
            Decimal256(50, 2),
            Dictionary(Box::new(Int32), Box::new(Utf8)),
            RunEndEncoded(Arc::new(Field::new("run_ends", Int32, false)), Arc::new(Field::new("values", Utf8, true))),
            Union(UnionFields::try_new([0], [Field::new("a", Int32, true)]).expect("a union"), UnionMode::Sparse),
        ];
        let nested = simple.iter().flat_map(|kind| {
            let item = Arc::new(Field::new("item", kind.clone(), true));
            let pair = vec![Field::new("keys", Utf8, false), Field::new("values", kind.clone(), true)];
            let entries = Arc::new(Field::new("entries", Struct(Fields::from(pair)), false));
            [
                List(Arc::clone(&item)),
                LargeList(Arc::clone(&item)),
                ListView(Arc::clone(&item)),
                LargeListView(Arc::clone(&item)),
                FixedSizeList(Arc::clone(&item), 2),
                Struct(Fields::from(vec![item])),
                Map(entries, false),
            ]
        });
        let nested: Vec<DataType> = nested.collect();
        simple.into_iter().chain(nested).collect()
    }

    #[test]
    fn what_is_supported_comes_back_as_it_was_and_can_be_written() {
        for kind in kinds().into_iter().filter(Codec::supports) {
            let schema = Arc::new(Schema::new(vec![Field::new("a", kind.clone(), true)]));
            let codec = Codec::new(Arc::clone(&schema));
            let column = new_null_array(&kind, 2);
            let rows = codec.encode(&[column], 2);
            let back = codec.decode(rows.iter());
            assert_eq!((back.schema(), back.num_rows()), (Arc::clone(&schema), 2), "{kind}");
            let written = Format::JsonLines.write(&schema, &[back]).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 2, "{kind}");
        }
    }

    #[test]
    fn what_does_not_come_back_is_not_supported_however_deep_it_stands() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let list = |kind: &DataType| DataType::List(Arc::new(Field::new("item", kind.clone(), true)));
        let structure = |kind: &DataType| DataType::Struct(Fields::from(vec![Field::new("a", kind.clone(), true)]));
        for kind in [dictionary.clone(), list(&dictionary), structure(&list(&dictionary))] {
            assert!(!Codec::supports(&kind), "{kind}");
        }
        assert!(Codec::supports(&structure(&list(&DataType::Utf8))));
    }
}
