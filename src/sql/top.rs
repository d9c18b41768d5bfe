//! `ORDER BY .. LIMIT` of everything, and of each group (`ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) <= k`).
//!
//! Rows are ordered by the expressions, then by all their columns, ascending: there are no ties. Floats are what their bits
//! are, as in DataFusion's sorts and windows: -0.0 comes before 0.0, and is a group of its own.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::PhysicalExpr;

use super::explain::order_words;
use super::failure::Failure;
use super::fixed_width;
use super::program::{Failed, evaluate, outcomes};
use super::row::{Codec, Row};
use super::words;

/// Which rows are the first of their group.
pub struct Top {
    input: Codec,
    partition: Vec<Arc<dyn PhysicalExpr>>,
    partition_codec: Codec,
    order: Vec<(Arc<dyn PhysicalExpr>, SortOptions)>,
    order_codec: Codec,
    offset: usize,
    limit: Option<usize>,
    with_number: bool,
}

/// Where a row stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its group; the row without columns where there is one group.
    pub partition: Row,
    /// Sorts it in its group; rows of which this is equal are sorted by themselves.
    pub order: Row,
}

/// What became of some rows.
#[derive(Debug, Default)]
pub struct Standings {
    /// With the places of the rows, in order.
    pub rows: Vec<(usize, Standing)>,
    /// The rows that could not be evaluated.
    pub failures: Vec<(usize, Failure)>,
}

impl fmt::Debug for Top {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description())
    }
}

impl Top {
    /// Of rows of the codec `input`: in each group of rows with equal `partition`, those of which `offset` come before, in
    /// this order, and `limit` at most; `with_number`: with the number of each as last column. Panics if an expression is
    /// not of these rows, or has no order.
    pub fn new(
        input: Codec,
        partition: Vec<Arc<dyn PhysicalExpr>>,
        order: Vec<(Arc<dyn PhysicalExpr>, SortOptions)>,
        offset: usize,
        limit: Option<usize>,
        with_number: bool,
    ) -> Self {
        let columns = |expressions: &[&Arc<dyn PhysicalExpr>]| {
            let kinds = expressions.iter().map(|expression| expression.data_type(input.schema()));
            let fields = kinds.enumerate().map(|(place, kind)| {
                Field::new(place.to_string(), kind.expect("an expression over these columns"), true)
            });
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        };
        let partition_codec = Codec::new(columns(&partition.iter().collect::<Vec<_>>()));
        let options: Vec<_> = order.iter().map(|(_, options)| *options).collect();
        let ordering: Vec<_> = order.iter().map(|(expression, _)| expression).collect();
        let order_codec = Codec::sorted(columns(&ordering), &options);
        Self { input, partition, partition_codec, order, order_codec, offset, limit, with_number }
    }

    /// What it does, so that two with the same words do the same to rows of the same columns.
    pub fn description(&self) -> String {
        let list = |words: Vec<String>| words.join(", ");
        let partition = list(self.partition.iter().map(ToString::to_string).collect());
        let order = list(self.order.iter().map(|(expression, options)| format!("{expression} {options}")).collect());
        let limit = self.limit.map_or("all".to_owned(), |limit| limit.to_string());
        let number = if self.with_number { " with number" } else { "" };
        format!("first [{}, {limit}] of each [{partition}] by [{order}]{number}", self.offset)
    }

    /// What it does, for people.
    pub fn explain(&self) -> String {
        let rows = self.limit.map_or_else(|| "all rows".to_owned(), |limit| format!("{limit} rows"));
        let after = if self.offset == 0 { String::new() } else { format!(" after {}", self.offset) };
        let partition = self.partition.iter().map(words::sql);
        let partition = partition.collect::<Vec<_>>().join(", ");
        let each = if partition.is_empty() { String::new() } else { format!(" for each {partition}") };
        let order = self
            .order
            .iter()
            .map(|(expression, options)| format!("{}{}", words::sql(expression), order_words(*options)));
        let order = order.collect::<Vec<_>>().join(", ");
        let by = if order.is_empty() { String::new() } else { format!(" by {order}") };
        let number = if self.with_number { ", numbered" } else { "" };
        format!("{rows}{after}{each}{by}{number}")
    }

    /// Where rows of the input's codec stand.
    pub fn run(&self, rows: &[&Row]) -> Standings {
        let batch = self.input.decode(rows.iter().copied());
        let (rows, failures) = outcomes(&batch, 0, &|batch| self.evaluate(batch));
        Standings { rows, failures }
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<(usize, Standing)>, Failed> {
        let count = batch.num_rows();
        let partitions = self.partition.iter().map(|expression| evaluate(expression, batch));
        let partitions = self.partition_codec.encode(&partitions.collect::<Result<Vec<_>, _>>()?, count);
        let orders = self.order.iter().map(|(expression, _)| evaluate(expression, batch));
        let orders = self.order_codec.encode(&orders.collect::<Result<Vec<_>, _>>()?, count);
        let standings = partitions.into_iter().zip(orders).map(|(partition, order)| Standing { partition, order });
        Ok(standings.enumerate().collect())
    }

    /// How many rows are passed over first.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many rows of a group are kept after these; none: all (an offset alone).
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Whether rows are put out with their number.
    pub fn is_numbered(&self) -> bool {
        self.with_number
    }

    /// The row as it is put out, being the `number`th of its group (from 1, `offset` included): with its number as last
    /// column where that was asked for.
    pub fn numbered(&self, row: &Row, number: u64) -> Row {
        if !self.with_number {
            return row.clone();
        }
        let mut bytes = row.bytes().to_vec();
        // `row_number()` is an unsigned number of 64 bits.
        fixed_width::write(&ScalarValue::UInt64(Some(number)), &mut bytes);
        Row::from(&bytes[..])
    }
}
