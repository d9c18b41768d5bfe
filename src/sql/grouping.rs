//! `GROUP BY`: what a row adds to its group, and the row that a group makes.
//!
//! Counts, sums, averages and the like ride in the difference: [`Accumulators`] add up and cancel exactly, so a retraction
//! leaves no trace. Minima, maxima and distinct values need all values in order, which a [`Group`] keeps. Both make the
//! same row of the same rows, and the one that DataFusion makes of them with the functions of
//! [`super::functions::aggregates`]. What several aggregates need (the values of `min(x)` and `max(x)`, the count of
//! `sum(x)` and `avg(x)`) is kept once.
//!
//! A sum that its type has no room for is a [`Failure`] of the group, which lasts until the sum is smaller.

mod accumulators;
mod call;
mod counts;
mod evaluation;
mod group;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::new_null_array;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};

pub use accumulators::Accumulators;
pub use call::{AggregateCall, AggregateFunction};
pub use group::Group;

use super::failure::Failure;
use super::fixed_width;
use super::numbers::{Numbers, Tally, TooLarge};
use super::program::as_json;
use super::row::{Codec, Row};
use super::words;
use group::Values;

/// How rows become groups and groups become rows.
pub struct Grouping {
    input: Codec,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    key: Codec,
    calls: Vec<Call>,
    output: SchemaRef,
    /// Each once, whatever is made of them.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    arguments: Vec<Argument>,
    /// Arguments that are tallied.
    tallied: Vec<Tallied>,
    /// Arguments whose values are kept in order.
    ordered: Vec<Ordered>,
}

/// A call, and how it gets its result.
struct Call {
    call: AggregateCall,
    /// The type of its argument; that of nothing, if it has none.
    input: DataType,
    result: Outcome,
}

/// What is evaluated on rows.
struct Argument {
    /// None: the row itself.
    expression: Option<Arc<dyn PhysicalExpr>>,
    /// The place of its filter.
    filter: Option<usize>,
}

/// An argument of which there is a [`Tally`].
struct Tallied {
    argument: usize,
    /// Not only how many there are.
    sums: bool,
}

/// An argument whose values are kept in order.
struct Ordered {
    argument: usize,
    codec: Codec,
    /// What stands where there is no value.
    null: Row,
    /// Whether the sum of distinct values is asked for.
    sums: bool,
}

/// Where a result comes from: the rows, a tally, or values in order, by their place.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Rows,
    Count(usize),
    Sum(usize),
    Average(usize),
    All(usize),
    Any(usize),
    Least(usize),
    Greatest(usize),
    DistinctCount(usize),
    DistinctSum(usize),
    DistinctAverage(usize),
}

/// What a row is for its group.
#[derive(Debug, Clone)]
pub struct Contribution {
    /// The group.
    pub key: Row,
    /// What it adds.
    pub accumulators: Accumulators,
    /// Its value for each argument whose values are kept in order; none where it counts for nothing (null, filtered).
    pub values: Box<[Option<Row>]>,
}

/// What became of some rows.
#[derive(Debug, Default)]
pub struct Contributions {
    /// With the places of the rows, in order.
    pub rows: Vec<(usize, Contribution)>,
    /// The rows that could not be evaluated.
    pub failures: Vec<(usize, Failure)>,
}

impl fmt::Debug for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description())
    }
}

impl Grouping {
    /// Groups rows of the codec `input` by `keys`; `output` has a column for each key and then for each call. Panics if a
    /// call is not maintained ([`AggregateCall::is_maintained`]).
    pub fn new(input: Codec, keys: Vec<Arc<dyn PhysicalExpr>>, calls: Vec<AggregateCall>, output: SchemaRef) -> Self {
        assert_eq!(keys.len() + calls.len(), output.fields().len(), "keys and aggregates are all columns");
        let key = Codec::new(Arc::new(Schema::new(output.fields()[..keys.len()].to_vec())));
        let (filters, arguments, tallied, ordered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut grouping = Self { input, keys, key, calls: Vec::new(), output, filters, arguments, tallied, ordered };
        for call in calls {
            assert!(call.is_maintained(grouping.input.schema()), "{call} is not maintained");
            let input = call.argument.as_ref().map(|argument| argument.data_type(grouping.input.schema()));
            let input = input.and_then(Result::ok).unwrap_or(DataType::Null);
            let result = grouping.result_of(&call, &input);
            grouping.calls.push(Call { call, input, result });
        }
        grouping
    }

    /// The columns that it makes.
    pub fn schema(&self) -> &SchemaRef {
        &self.output
    }

    /// What it does, so that two with the same words do the same to rows of the same columns.
    pub fn description(&self) -> String {
        let calls: Vec<_> = self.calls.iter().map(|call| &call.call).collect();
        format!("group [{}] make [{}]", list(&self.keys), list(&calls))
    }

    /// What it does, for people.
    pub fn explain(&self) -> String {
        let keys: Vec<_> = self.keys.iter().map(words::sql).collect();
        let calls: Vec<_> = self.calls.iter().map(|call| call.call.sql()).collect();
        let by = if self.is_global() { String::new() } else { format!(" by {}", keys.join(", ")) };
        let kept = match self.ordered.len() {
            0 => "in differences".to_owned(),
            1 => "in differences and 1 ordered index a group".to_owned(),
            many => format!("in differences and {many} ordered indexes a group"),
        };
        format!("{}{by}, {kept}", if calls.is_empty() { "groups".to_owned() } else { calls.join(", ") })
    }

    /// Whether all aggregates ride in the difference, so that no [`Group`] is needed.
    pub fn is_accumulable(&self) -> bool {
        self.ordered.is_empty()
    }

    /// Whether there is one group, which is there without any row too (`SELECT count(*) FROM ..`).
    pub fn is_global(&self) -> bool {
        self.keys.is_empty()
    }

    /// The accumulators of no row.
    pub fn nothing(&self) -> Accumulators {
        Accumulators::default()
    }

    /// The row of a group whose aggregates all ride in the difference; none for a group without rows that is not global.
    pub fn finish(&self, key: &Row, sum: &Accumulators) -> Option<Result<Row, Failure>> {
        assert!(self.is_accumulable(), "values in order are in a group");
        self.finish_with(key, sum, &[])
    }

    fn finish_with(&self, key: &Row, sum: &Accumulators, values: &[Values]) -> Option<Result<Row, Failure>> {
        if sum.rows() <= 0 && !self.is_global() {
            return None;
        }
        let mut row = key.bytes().to_vec();
        for call in &self.calls {
            if let Err(error) = self.write_result(call, sum, values, &mut row) {
                let input = as_json(&self.key.decode([key].into_iter())).into();
                let (expression, reason) = (call.call.sql().into(), error.to_string().into());
                return Some(Err(Failure { input, expression, reason }));
            }
        }
        Some(Ok(Row::from(&row[..])))
    }

    fn write_result(
        &self,
        Call { call, input, result }: &Call,
        sum: &Accumulators,
        values: &[Values],
        row: &mut Vec<u8>,
    ) -> Result<(), TooLarge> {
        let in_order = |found: Option<&Row>, place: usize, row: &mut Vec<u8>| {
            // Rows of one column are that column's bytes, in any row.
            row.extend_from_slice(found.unwrap_or(&self.ordered[place].null).bytes());
            Ok(())
        };
        let output = &call.output;
        let value = match *result {
            Outcome::Least(place) => return in_order(values[place].least(), place, row),
            Outcome::Greatest(place) => return in_order(values[place].greatest(), place, row),
            Outcome::Rows => ScalarValue::Int64(Some(sum.rows())),
            Outcome::Count(place) => ScalarValue::Int64(Some(sum.tally(place).count)),
            Outcome::Sum(place) => sum.tally(place).sum(output)?,
            Outcome::Average(place) => sum.tally(place).average(input, output)?,
            Outcome::All(place) => sum.tally(place).all(),
            Outcome::Any(place) => sum.tally(place).any(),
            Outcome::DistinctCount(place) => ScalarValue::Int64(Some(values[place].distinct.count)),
            Outcome::DistinctSum(place) => values[place].distinct.sum(output)?,
            Outcome::DistinctAverage(place) => values[place].distinct.average(input, output)?,
        };
        fixed_width::write(&value, row);
        Ok(())
    }

    /// How a call gets its result: from what is kept for another one, where that is enough.
    fn result_of(&mut self, call: &AggregateCall, input: &DataType) -> Outcome {
        let needs_order = call.distinct && !matches!(call.function, AggregateFunction::All | AggregateFunction::Any);
        match (call.function, needs_order) {
            (AggregateFunction::Least, _) => Outcome::Least(self.ordered(call, input, false)),
            (AggregateFunction::Greatest, _) => Outcome::Greatest(self.ordered(call, input, false)),
            (AggregateFunction::Count, true) => Outcome::DistinctCount(self.ordered(call, input, false)),
            (AggregateFunction::Sum, true) => Outcome::DistinctSum(self.ordered(call, input, true)),
            (AggregateFunction::Average, true) => Outcome::DistinctAverage(self.ordered(call, input, true)),
            (AggregateFunction::Count, false) if self.counts_rows(call) => Outcome::Rows,
            (AggregateFunction::Count, false) => Outcome::Count(self.tallied(call, false)),
            (AggregateFunction::Sum, false) => Outcome::Sum(self.tallied(call, true)),
            (AggregateFunction::Average, false) => Outcome::Average(self.tallied(call, true)),
            (AggregateFunction::All, _) => Outcome::All(self.tallied(call, true)),
            (AggregateFunction::Any, _) => Outcome::Any(self.tallied(call, true)),
        }
    }

    /// Whether a count is that of the rows: of all of them, of a literal, or of a column that is never null.
    fn counts_rows(&self, call: &AggregateCall) -> bool {
        let is_given = call.argument.as_ref().is_none_or(|argument| {
            let plain = argument.downcast_ref::<Column>().is_some() || argument.downcast_ref::<Literal>().is_some();
            plain && argument.nullable(self.input.schema()).is_ok_and(|nullable| !nullable)
        });
        call.filter.is_none() && is_given
    }

    fn tallied(&mut self, call: &AggregateCall, sums: bool) -> usize {
        let argument = self.argument(call);
        let known = self.tallied.iter().position(|tallied| tallied.argument == argument);
        let place = known.unwrap_or_else(|| {
            self.tallied.push(Tallied { argument, sums });
            self.tallied.len() - 1
        });
        self.tallied[place].sums |= sums;
        place
    }

    fn ordered(&mut self, call: &AggregateCall, input: &DataType, sums: bool) -> usize {
        let argument = self.argument(call);
        let known = self.ordered.iter().position(|ordered| ordered.argument == argument);
        let place = known.unwrap_or_else(|| {
            self.ordered.push(Ordered::new(argument, input));
            self.ordered.len() - 1
        });
        self.ordered[place].sums |= sums;
        place
    }

    fn argument(&mut self, call: &AggregateCall) -> usize {
        let filter = call.filter.as_ref().map(|filter| {
            self.filters.iter().position(|known| known == filter).unwrap_or_else(|| {
                self.filters.push(Arc::clone(filter));
                self.filters.len() - 1
            })
        });
        let known = |known: &Argument| known.expression == call.argument && known.filter == filter;
        self.arguments.iter().position(known).unwrap_or_else(|| {
            self.arguments.push(Argument { expression: call.argument.clone(), filter });
            self.arguments.len() - 1
        })
    }
}

impl Ordered {
    fn new(argument: usize, kind: &DataType) -> Self {
        let codec = Codec::new(Arc::new(Schema::new(vec![Field::new("value", kind.clone(), true)])));
        let null = codec.encode(&[new_null_array(kind, 1)], 1).swap_remove(0);
        Self { argument, codec, null, sums: false }
    }

    /// One value, once.
    fn tally(&self, value: &Row) -> Tally {
        let mut tally = Tally { count: 1, ..Tally::ZERO };
        if self.sums {
            let column = self.codec.decode([value].into_iter());
            tally = Tally::ZERO;
            tally.add(&Numbers::of(column.column(0)), 0);
        }
        tally
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
