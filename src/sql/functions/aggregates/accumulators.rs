//! What DataFusion calls with columns of values: the same tallies that ride in the differences of maintained views.

use std::collections::HashSet;
use std::mem::{size_of, size_of_val};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, LargeBinaryArray, new_empty_array, new_null_array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_datafusion_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::super::super::canonical::canonical;
use super::super::super::grouping::AggregateFunction;
use super::super::super::numbers::{Numbers, Tally};
use super::super::super::row::{Codec, Row};

/// What is made of a tally.
#[derive(Debug, Clone)]
struct Outcome {
    function: AggregateFunction,
    input: DataType,
    output: DataType,
}

impl Outcome {
    fn new(function: AggregateFunction, args: &AccumulatorArgs) -> Self {
        let input = args.expr_fields[0].data_type().clone();
        Self { function, input, output: args.return_type().clone() }
    }

    fn of(&self, tally: &Tally) -> Result<ScalarValue> {
        let result = match self.function {
            AggregateFunction::Average => tally.average(&self.input, &self.output),
            _ => tally.sum(&self.output),
        };
        result.map_err(|error| exec_datafusion_err!("{error}"))
    }
}

/// Adds the values of a column that count to the tally of their group, by the places of both.
fn add(values: &ArrayRef, filter: Option<&BooleanArray>, tallies: &mut [Tally], group: impl Fn(usize) -> usize) {
    let (numbers, nulls) = (Numbers::of(values), values.nulls());
    let counts = |place: &usize| {
        nulls.is_none_or(|nulls| nulls.is_valid(*place))
            && filter.is_none_or(|filter| filter.is_valid(*place) && filter.value(*place))
    };
    for place in (0..values.len()).filter(counts) {
        tallies[group(place)].add(&numbers, place);
    }
}

/// The tally of all values of a column.
fn tally_of(values: &ArrayRef) -> Tally {
    let mut tally = Tally::ZERO;
    add(values, None, std::slice::from_mut(&mut tally), |_| 0);
    tally
}

fn packed(tally: &Tally) -> Vec<u8> {
    postcard::to_allocvec(tally).expect("a tally can be written")
}

fn unpacked(state: &[u8]) -> Result<Tally> {
    postcard::from_bytes(state).map_err(|error| internal_datafusion_err!("no tally: {error}"))
}

/// `sum` or `avg` of one group.
#[derive(Debug)]
pub(super) struct Exact {
    outcome: Outcome,
    tally: Tally,
}

impl Exact {
    pub(super) fn new(function: AggregateFunction, args: &AccumulatorArgs) -> Self {
        Self { outcome: Outcome::new(function, args), tally: Tally::ZERO }
    }
}

impl Accumulator for Exact {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        add(&values[0], None, std::slice::from_mut(&mut self.tally), |_| 0);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.tally.add_times(&tally_of(&values[0]), -1);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in states[0].as_binary::<i64>().iter().flatten() {
            self.tally.add_times(&unpacked(state)?, 1);
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::LargeBinary(Some(packed(&self.tally)))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.outcome.of(&self.tally)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// `sum` or `avg` of the distinct values of one group.
#[derive(Debug)]
pub(super) struct Distinct {
    outcome: Outcome,
    codec: Codec,
    /// All numbers of a type have rows of one width.
    width: usize,
    seen: HashSet<Row>,
}

impl Distinct {
    pub(super) fn new(function: AggregateFunction, args: &AccumulatorArgs) -> Self {
        let outcome = Outcome::new(function, args);
        let codec = Codec::new(Arc::new(Schema::new(vec![Field::new("value", outcome.input.clone(), true)])));
        let width = codec.encode(&[new_null_array(&outcome.input, 1)], 1)[0].bytes().len();
        Self { outcome, codec, width, seen: HashSet::new() }
    }
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = canonical(&values[0]);
        let rows = self.codec.encode(&[Arc::clone(&values)], values.len());
        self.seen.extend(rows.into_iter().enumerate().filter(|(place, _)| values.is_valid(*place)).map(|(_, row)| row));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in states[0].as_binary::<i64>().iter().flatten() {
            self.seen.extend(state.chunks_exact(self.width).map(Row::from));
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let rows: Vec<&[u8]> = self.seen.iter().map(Row::bytes).collect();
        Ok(vec![ScalarValue::LargeBinary(Some(rows.concat()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.outcome.of(&tally_of(self.codec.decode(self.seen.iter()).column(0)))
    }

    fn size(&self) -> usize {
        // A row is a pointer to two counters and its bytes.
        let row = size_of::<Row>() + 2 * size_of::<usize>() + self.width;
        size_of_val(self) + self.seen.capacity() * size_of::<Row>() + self.seen.len() * row
    }
}

/// `sum` or `avg` of many groups.
pub(super) struct ExactGroups {
    outcome: Outcome,
    tallies: Vec<Tally>,
}

impl ExactGroups {
    pub(super) fn new(function: AggregateFunction, args: &AccumulatorArgs) -> Self {
        Self { outcome: Outcome::new(function, args), tallies: Vec::new() }
    }
}

impl GroupsAccumulator for ExactGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.tallies.resize(count, Tally::ZERO);
        add(&values[0], filter, &mut self.tallies, |place| groups[place]);
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.tallies.resize(count, Tally::ZERO);
        for (state, group) in states[0].as_binary::<i64>().iter().zip(groups) {
            if let Some(state) = state {
                self.tallies[*group].add_times(&unpacked(state)?, 1);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let tallies = emit_to.take_needed(&mut self.tallies);
        if tallies.is_empty() {
            return Ok(new_empty_array(&self.outcome.output));
        }
        let values = tallies.iter().map(|tally| self.outcome.of(tally)).collect::<Result<Vec<_>>>()?;
        ScalarValue::iter_to_array(values)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let tallies = emit_to.take_needed(&mut self.tallies);
        Ok(vec![Arc::new(LargeBinaryArray::from_iter_values(tallies.iter().map(packed)))])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut tallies = vec![Tally::ZERO; values[0].len()];
        add(&values[0], filter, &mut tallies, |place| place);
        Ok(vec![Arc::new(LargeBinaryArray::from_iter_values(tallies.iter().map(packed)))])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.tallies.capacity() * size_of::<Tally>()
    }
}

/// DataFusion's, which is given canonical floats.
#[derive(Debug)]
pub(super) struct Canonical(Box<dyn Accumulator>);

impl Canonical {
    pub(super) fn new(accumulator: Box<dyn Accumulator>) -> Self {
        Self(accumulator)
    }
}

fn canonical_all(values: &[ArrayRef]) -> Vec<ArrayRef> {
    values.iter().map(canonical).collect()
}

impl Accumulator for Canonical {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(&canonical_all(values))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.retract_batch(&canonical_all(values))
    }

    fn supports_retract_batch(&self) -> bool {
        self.0.supports_retract_batch()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }
}
