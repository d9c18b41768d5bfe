//! Relations over columns of 64-bit integers, put together by hand, and how often rows were compared: for tests of what
//! renders them.

use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;

use super::grouping::{AggregateCall, AggregateFunction, Grouping};
use super::program::Program;
use super::relation::{Fingerprint, Operator, Relation};
use super::row::{Codec, Row};
use super::top::Top;

/// The values of a row.
pub(crate) type Values = Vec<Option<i64>>;

/// The names of columns, by their places.
pub(crate) const NAMES: [&str; 4] = ["a", "b", "c", "d"];

static CODECS: LazyLock<[Codec; 5]> = LazyLock::new(|| [0, 1, 2, 3, 4].map(|columns| Codec::new(integers(columns))));

thread_local! {
    static COMPARISONS: Cell<u64> = const { Cell::new(0) };
}

/// How often rows were compared on this thread: what an update costs, but for a constant factor.
pub(crate) fn comparisons() -> u64 {
    COMPARISONS.get()
}

impl Ord for Row {
    fn cmp(&self, other: &Self) -> Ordering {
        COMPARISONS.set(COMPARISONS.get() + 1);
        self.bytes().cmp(other.bytes())
    }
}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

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

/// What a test aggregates: which function, of what, where, and whether equal values count once.
pub(crate) type Call<'a> = (AggregateFunction, Option<&'a str>, Option<&'a str>, bool);

/// Groups rows of two columns by these expressions; all results are 64-bit integers.
pub(crate) fn grouping(keys: &[&str], calls: &[Call<'_>]) -> Arc<Grouping> {
    let call = |(function, argument, filter, distinct): &Call<'_>| AggregateCall {
        function: *function,
        argument: argument.map(expression),
        filter: filter.map(expression),
        distinct: *distinct,
        output: DataType::Int64,
    };
    let keys = keys.iter().map(|text| expression(text)).collect::<Vec<_>>();
    let output = integers(keys.len() + calls.len());
    Arc::new(Grouping::new(CODECS[2].clone(), keys, calls.iter().map(call).collect(), output))
}

/// The first rows of two columns: of each of these groups, by this order (an expression, whether descending, whether
/// nulls come first), after so many, so many, with their number or without.
pub(crate) fn top(
    partition: &[&str],
    order: &[(&str, bool, bool)],
    offset: usize,
    limit: Option<usize>,
    with_number: bool,
) -> Arc<Top> {
    let partition = partition.iter().map(|text| expression(text)).collect();
    let order = order.iter().map(|(text, descending, nulls_first)| {
        (expression(text), SortOptions { descending: *descending, nulls_first: *nulls_first })
    });
    Arc::new(Top::new(CODECS[2].clone(), partition, order.collect(), offset, limit, with_number))
}

/// Makes two columns of numbered rows of two columns.
pub(crate) fn numbered_program(outputs: &[&str]) -> Arc<Program> {
    let columns = [("a", DataType::Int64), ("b", DataType::Int64), ("number", DataType::UInt64)];
    let outputs: Vec<_> = NAMES.into_iter().zip(outputs.iter().copied()).collect();
    Arc::new(Program::parse(&columns, &[], &outputs))
}

/// An expression over two columns.
fn expression(text: &str) -> Arc<dyn PhysicalExpr> {
    static SESSION: LazyLock<SessionContext> = LazyLock::new(SessionContext::new);
    let known = DFSchema::try_from(integers(2)).expect("names differ");
    let parsed = SESSION.parse_sql_expr(text, &known).expect(text);
    SESSION.create_physical_expr(parsed, &known).expect(text)
}
