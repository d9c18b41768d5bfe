//! `string_agg` with its bound: the text of a group is no longer than any other that is made.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::functions_aggregate::string_agg::string_agg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, ReversedUDAF, Signature};

use super::TEXT_BYTES_MAX;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextAggregate(Arc<AggregateUDF>);

/// The function, under its name.
pub(in crate::sql) fn text_aggregate() -> AggregateUDF {
    AggregateUDF::new_from_impl(TextAggregate(string_agg_udaf()))
}

impl AggregateUDFImpl for TextAggregate {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.0.return_type(arguments)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Bounded(self.0.accumulator(args)?)))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        // DataFusion would put its own there.
        ReversedUDAF::NotSupported
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
}

/// What it has so far counts towards the query's memory; what it makes of that has a bound.
#[derive(Debug)]
struct Bounded(Box<dyn Accumulator>);

impl Accumulator for Bounded {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let made = self.0.evaluate()?;
        let bytes = made.try_as_str().flatten().map_or(0, str::len) as u64;
        if bytes > TEXT_BYTES_MAX {
            return exec_err!("string_agg() would make a text of {bytes} bytes; {TEXT_BYTES_MAX} are allowed");
        }
        Ok(made)
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states)
    }
}
