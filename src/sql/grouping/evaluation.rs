//! Keys and arguments of rows, evaluated in batches.
//!
//! A filter decides first: an argument that fails on a row that its filter leaves out fails nobody.

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use datafusion::arrow::buffer::NullBuffer;

use super::super::canonical::canonical;
use super::super::numbers::{Numbers, Tally};
use super::super::program::{Failed, evaluate, evaluate_filter, evaluate_selected, outcomes};
use super::super::row::Row;
use super::{Accumulators, Argument, Contribution, Contributions, Grouping};

/// An argument's values on some rows.
struct Values<'a> {
    /// None: the rows themselves.
    column: Option<ArrayRef>,
    nulls: Option<NullBuffer>,
    selected: Option<&'a BooleanArray>,
}

impl Values<'_> {
    /// Whether a row counts.
    fn has(&self, place: usize) -> bool {
        self.selected.is_none_or(|selected| selected.value(place))
            && self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(place))
    }
}

impl Grouping {
    /// Evaluates keys and arguments of rows of the input's codec.
    pub fn run(&self, rows: &[&Row]) -> Contributions {
        let batch = self.input.decode(rows.iter().copied());
        let (rows, failures) = outcomes(&batch, 0, &|batch| self.evaluate(batch));
        Contributions { rows, failures }
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<(usize, Contribution)>, Failed> {
        let count = batch.num_rows();
        let keys = self.keys.iter().map(|key| evaluate(key, batch).map(|key| canonical(&key)));
        let keys = self.key.encode(&keys.collect::<Result<Vec<_>, _>>()?, count);
        let filters = self.filters.iter().map(|filter| evaluate_filter(filter, batch));
        let filters = filters.collect::<Result<Vec<_>, _>>()?;
        let arguments = self.arguments.iter().map(|argument| values(argument, batch, &filters));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;

        let tallied = self.tallied.iter().map(|tallied| {
            let values = &arguments[tallied.argument];
            (values, values.column.as_deref().filter(|_| tallied.sums).map(Numbers::of))
        });
        let tallied: Vec<_> = tallied.collect();
        let ordered = self.ordered.iter().map(|ordered| {
            let values = &arguments[ordered.argument];
            let column = values.column.as_ref().expect("values in order are of an argument");
            (values, ordered.codec.encode(&[canonical(column)], count))
        });
        let ordered: Vec<_> = ordered.collect();
        let contributions = keys.into_iter().enumerate().map(|(place, key)| {
            let tallies = tallied.iter().map(|(values, numbers)| tally(values, numbers.as_ref(), place));
            let values = ordered.iter().map(|(values, rows)| values.has(place).then(|| rows[place].clone()));
            let accumulators = Accumulators::of_row(tallies);
            (place, Contribution { key, accumulators, values: values.collect() })
        });
        Ok(contributions.collect())
    }
}

fn values<'a>(argument: &Argument, batch: &RecordBatch, filters: &'a [BooleanArray]) -> Result<Values<'a>, Failed> {
    let selected = argument.filter.map(|filter| &filters[filter]);
    let column = argument.expression.as_ref().map(|expression| match selected {
        Some(selected) => evaluate_selected(expression, batch, selected),
        None => evaluate(expression, batch),
    });
    let column = column.transpose()?;
    let nulls = column.as_ref().and_then(|column| column.logical_nulls());
    Ok(Values { column, nulls, selected })
}

/// What one row adds.
fn tally(values: &Values<'_>, numbers: Option<&Numbers<'_>>, place: usize) -> Tally {
    let mut tally = Tally::ZERO;
    if values.has(place) {
        match numbers {
            Some(numbers) => tally.add(numbers, place),
            None => tally.count = 1,
        }
    }
    tally
}
