//! Aggregates that answer ad-hoc queries as views are maintained, to the last bit.
//!
//! DataFusion's own depend on the order of rows where floats are concerned, and wrap where integers overflow. In their place
//! stand, under their names:
//!
//! - `sum` and `avg`: exact, rounded once; a result that its type has no room for is an error
//! - `min` and `max` of floats, and `count(DISTINCT)` of them: both zeros are one value and so is all that is no number,
//!   which is greater than any other
//!
//! All else (names, types, coercion, sums of intervals) is DataFusion's. `register` also takes away the optimizer's rule that
//! turns a single `DISTINCT` aggregate into two groupings: it adds up sums that are rounded already.

mod accumulators;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs,
};
use datafusion::prelude::SessionContext;

use super::super::grouping::AggregateFunction;
use super::super::numbers::Numbers;
use accumulators::{Canonical, Distinct, Exact, ExactGroups};

/// Makes of a single `DISTINCT` aggregate two groupings, and of a sum beside it a sum of sums.
pub(in crate::sql) const UNSOUND_RULE: &str = "single_distinct_aggregation_to_group_by";

/// Puts our aggregates in the place of DataFusion's.
pub fn register(session: &SessionContext) {
    for function in [count_udaf(), sum_udaf(), avg_udaf(), min_udaf(), max_udaf()] {
        session.register_udaf(AggregateUDF::new_from_impl(Replacement::of(function)));
    }
    session.remove_optimizer_rule(UNSOUND_RULE);
}

/// One of DataFusion's functions with accumulators of ours.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Replacement {
    builtin: Arc<AggregateUDF>,
    function: AggregateFunction,
}

/// Whose accumulators a call gets.
enum Accumulated {
    /// Exact sums.
    Exactly,
    /// DataFusion's, over canonical floats.
    Canonically,
    /// DataFusion's.
    AsBuiltIn,
}

impl Replacement {
    fn of(builtin: Arc<AggregateUDF>) -> Self {
        let function = AggregateFunction::named(builtin.name()).expect("a function that is maintained");
        Self { builtin, function }
    }

    fn accumulated(&self, inputs: &[FieldRef], distinct: bool) -> Accumulated {
        let Some(kind) = inputs.first().map(|field| field.data_type()) else {
            return Accumulated::AsBuiltIn;
        };
        match self.function {
            AggregateFunction::Sum | AggregateFunction::Average if Numbers::are(kind) => Accumulated::Exactly,
            AggregateFunction::Least | AggregateFunction::Greatest if kind.is_floating() => Accumulated::Canonically,
            AggregateFunction::Count if kind.is_floating() && distinct => Accumulated::Canonically,
            _ => Accumulated::AsBuiltIn,
        }
    }
}

impl AggregateUDFImpl for Replacement {
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(match self.accumulated(args.expr_fields, args.is_distinct) {
            Accumulated::Exactly if args.is_distinct => Box::new(Distinct::new(self.function, &args)),
            Accumulated::Exactly => Box::new(Exact::new(self.function, &args)),
            Accumulated::Canonically => Box::new(Canonical::new(self.builtin.accumulator(args)?)),
            Accumulated::AsBuiltIn => self.builtin.accumulator(args)?,
        })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.accumulated(args.expr_fields, args.is_distinct) {
            Accumulated::Exactly => self.accumulator(args),
            Accumulated::Canonically => Ok(Box::new(Canonical::new(self.builtin.create_sliding_accumulator(args)?))),
            Accumulated::AsBuiltIn => self.builtin.create_sliding_accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        match self.accumulated(args.expr_fields, args.is_distinct) {
            Accumulated::Exactly => !args.is_distinct,
            // DataFusion's for groups compares floats so that what is no number comes and goes with the order of rows.
            Accumulated::Canonically => false,
            Accumulated::AsBuiltIn => self.builtin.groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match self.accumulated(args.expr_fields, args.is_distinct) {
            Accumulated::Exactly => Ok(Box::new(ExactGroups::new(self.function, &args))),
            Accumulated::Canonically | Accumulated::AsBuiltIn => self.builtin.create_groups_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        match self.accumulated(args.input_fields, args.is_distinct) {
            Accumulated::Exactly => {
                let name = format_state_name(args.name, if args.is_distinct { "distinct" } else { "tally" });
                Ok(vec![Arc::new(Field::new(name, DataType::LargeBinary, true))])
            }
            Accumulated::Canonically | Accumulated::AsBuiltIn => self.builtin.state_fields(args),
        }
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs) -> Option<ScalarValue> {
        // Statistics know no canonical floats, and wrap.
        let is_sum = matches!(self.function, AggregateFunction::Sum | AggregateFunction::Average);
        let is_exact = !is_sum && !statistics.return_type.is_floating() && !statistics.is_distinct;
        is_exact.then(|| self.builtin.value_from_stats(statistics)).flatten()
    }

    fn is_descending(&self) -> Option<bool> {
        // It would let the plan find the first groups by comparisons of its own.
        None
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn name(&self) -> &str {
        self.builtin.name()
    }

    fn aliases(&self) -> &[String] {
        self.builtin.aliases()
    }

    fn signature(&self) -> &Signature {
        self.builtin.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.builtin.return_type(arguments)
    }

    fn is_nullable(&self) -> bool {
        self.builtin.is_nullable()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.builtin.coerce_types(arguments)
    }

    fn default_value(&self, kind: &DataType) -> Result<ScalarValue> {
        self.builtin.default_value(kind)
    }

    fn set_monotonicity(&self, kind: &DataType) -> SetMonotonicity {
        self.builtin.inner().set_monotonicity(kind)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.builtin.documentation()
    }
}
