//! Reading the stored rows of a view: which of them a reader asked for, in what order, and as columns.
//!
//! In: filters `column = any of these texts, or null` and an order. Filters on the columns by which a view is sorted become
//! ranges of bytes, so that a read seeks; the others are looked at row by row. Not here: where rows come from
//! (`published`), how columns are written ([`super::format`]).

mod key;
mod value;

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, Scalar};
use datafusion::arrow::compute::kernels::cmp::not_distinct;
use datafusion::arrow::compute::{SortOptions, is_null, or};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};

pub use self::key::KeyColumns;
use self::value::{stored_forms, value};
use super::canonical::canonical;
use super::format::Format;
use super::row::{Codec, Row};
use super::view_plan::{ViewColumn, ViewPlan};

/// There are no more ranges,
const RANGES_MAX: usize = 1024;
/// and none begins with more bytes.
pub const RANGE_START_BYTES_MAX: usize = 4096;

/// What was asked for cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadingError {
    /// There is no such column.
    #[error("there is no column `{column}`; the columns are {known}")]
    UnknownColumn {
        /// What was asked for.
        column: String,
        /// What there is.
        known: String,
    },
    /// A value is no value of the column's type.
    #[error("`{value}` is no value of the column `{column}`, which is {kind}")]
    Value {
        /// The column.
        column: String,
        /// What was given.
        value: String,
        /// What is allowed.
        kind: String,
    },
    /// A column whose values have no text.
    #[error("`{column}` holds lists or structures, by which rows are not chosen but for null; choose them in SQL")]
    Nested {
        /// The column.
        column: String,
    },
}

impl ReadingError {
    fn unknown(plan: &ViewPlan, name: &str) -> Self {
        let known = plan.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        Self::UnknownColumn { column: name.to_owned(), known }
    }
}

/// A column to sort by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderBy {
    /// Its name.
    pub column: String,
    /// Greatest first.
    pub descending: bool,
}

/// Rows from `start` on and before `end`, by bytes; none: to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRange {
    /// The first bytes.
    pub start: Vec<u8>,
    /// The first bytes beyond.
    pub end: Option<Vec<u8>>,
}

/// What a reader asked for.
#[derive(Debug)]
pub struct Reading {
    codec: Codec,
    columns: Vec<ViewColumn>,
    selected: SchemaRef,
    filters: Vec<Filter>,
    ranges: Vec<RowRange>,
    order: Option<(Codec, Vec<usize>)>,
}

/// One of these values in a column.
#[derive(Debug)]
struct Filter {
    place: usize,
    values: Vec<ArrayRef>,
}

impl Reading {
    /// What `filters` (a column, and texts of which its value must be one; none of them: null) and `order` ask of a view;
    /// without an order, the view's own.
    pub fn new(
        plan: &ViewPlan,
        filters: &[(String, Vec<Option<String>>)],
        order: &[OrderBy],
    ) -> Result<Self, ReadingError> {
        let column = |name: &str| {
            plan.columns.iter().find(|column| column.name == name).ok_or_else(|| ReadingError::unknown(plan, name))
        };
        let mut parsed = Vec::new();
        for (name, texts) in filters {
            let column = column(name)?;
            let values = texts.iter().map(|text| value(column, text.as_deref())).collect::<Result<_, _>>()?;
            parsed.push(Filter { place: column.place, values });
        }
        let mut first = Vec::new();
        for order in order {
            first.push((column(&order.column)?.place, order.descending));
        }
        let selected =
            plan.columns.iter().map(|column| plan.codec.schema().field(column.place).clone().with_name(&column.name));
        Ok(Self {
            codec: plan.codec.clone(),
            columns: plan.columns.clone(),
            selected: Arc::new(Schema::new(selected.collect::<Vec<_>>())),
            ranges: ranges(&plan.codec, &parsed),
            filters: parsed,
            order: (!first.is_empty()).then(|| reordered(&plan.codec, &first)),
        })
    }

    /// Where rows that pass the filters can stand, in order.
    pub fn ranges(&self) -> &[RowRange] {
        &self.ranges
    }

    /// Whether rows are wanted in another order than the view's own.
    pub fn is_reordered(&self) -> bool {
        self.order.is_some()
    }

    /// The columns as selected.
    pub fn schema(&self) -> &SchemaRef {
        &self.selected
    }

    /// Which rows pass the filters.
    pub fn passing(&self, rows: &[&Row]) -> Vec<bool> {
        if self.filters.is_empty() {
            return vec![true; rows.len()];
        }
        let batch = self.codec.decode(rows.iter().copied());
        let mut passing = vec![true; rows.len()];
        for filter in &self.filters {
            let mut any = BooleanArray::from(vec![false; rows.len()]);
            let column = canonical(batch.column(filter.place));
            for value in &filter.values {
                // Lists and structures are told from null, and from one another by nobody.
                let equal = match value.logical_null_count() {
                    0 => not_distinct(&column, &Scalar::new(value)).expect("of one type"),
                    _ => is_null(&column).expect("a column"),
                };
                any = or(&any, &equal).expect("as many");
            }
            passing.iter_mut().zip(any.values()).for_each(|(passing, equal)| *passing &= equal);
        }
        passing
    }

    /// What sorts rows in the order that is wanted; the rows themselves do in the view's own.
    pub fn sort_keys(&self, rows: &[&Row]) -> Vec<Row> {
        match &self.order {
            None => rows.iter().map(|row| (*row).clone()).collect(),
            Some((codec, places)) => {
                let batch = self.codec.decode(rows.iter().copied());
                let columns: Vec<ArrayRef> = places.iter().map(|place| Arc::clone(batch.column(*place))).collect();
                codec.encode(&columns, rows.len())
            }
        }
    }

    /// The columns of rows, as selected.
    pub fn columns(&self, rows: &[&Row]) -> RecordBatch {
        let batch = self.codec.decode(rows.iter().copied());
        let columns = self.columns.iter().map(|column| Arc::clone(batch.column(column.place))).collect();
        let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.selected), columns, &options).expect("the same columns")
    }
}

impl ViewColumn {
    /// Whether its values are texts.
    pub fn is_text(&self) -> bool {
        self.kind.is_string()
    }

    /// The JSON in which a value, written as text, is shown.
    pub fn json_of(&self, text: &str) -> Result<String, ReadingError> {
        let value = value(self, Some(text))?;
        let schema = Arc::new(Schema::new(vec![Field::new("value", self.kind.clone(), true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![value]).expect("a value of the column");
        let written = Format::JsonLines.write(&schema, &[batch]).expect("one value can be written");
        let written = String::from_utf8(written).expect("JSON is UTF-8");
        let json = written.trim_end().strip_prefix(r#"{"value":"#).and_then(|rest| rest.strip_suffix('}'));
        Ok(json.expect("an object of one field").to_owned())
    }
}

/// The ranges that equalities on leading columns leave; all rows without any.
fn ranges(codec: &Codec, filters: &[Filter]) -> Vec<RowRange> {
    let mut prefixes = vec![Vec::new()];
    for place in 0..codec.schema().fields().len() {
        let Some(filter) = filters.iter().find(|filter| filter.place == place) else { break };
        let alone = codec.column(place);
        let Some(forms) = filter.values.iter().map(stored_forms).collect::<Option<Vec<_>>>() else { break };
        let values: Vec<Row> = forms.concat().into_iter().flat_map(|value| alone.encode(&[value], 1)).collect();
        let longest = prefixes.iter().map(Vec::len).max().unwrap_or(0);
        let bytes = longest + values.iter().map(|value| value.bytes().len()).max().unwrap_or(0);
        if prefixes.len() * values.len() > RANGES_MAX || bytes > RANGE_START_BYTES_MAX {
            break;
        }
        prefixes =
            prefixes.iter().flat_map(|prefix| values.iter().map(|value| [prefix, value.bytes()].concat())).collect();
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes.into_iter().map(|start| RowRange { end: successor(&start), start }).collect()
}

/// The first bytes after all that begin with `prefix`; none where there are none.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

/// A codec that sorts by these columns first (descending ones with nulls last, as ascending ones have them first), then
/// by all others as they are stored; and where its columns stand in the stored row.
fn reordered(stored: &Codec, first: &[(usize, bool)]) -> (Codec, Vec<usize>) {
    let mut places: Vec<usize> = Vec::new();
    let mut options = Vec::new();
    for (place, descending) in first {
        if !places.contains(place) {
            places.push(*place);
            options.push(SortOptions { descending: *descending, nulls_first: !descending });
        }
    }
    for place in 0..stored.schema().fields().len() {
        if !places.contains(&place) {
            places.push(place);
            options.push(stored.options()[place]);
        }
    }
    let schema = Arc::new(stored.schema().project(&places).expect("places of the schema"));
    (Codec::sorted(schema, &options), places)
}
