//! `GROUP BY` and aggregates.

use std::sync::Arc;

use datafusion::logical_expr::expr::{AggregateFunction as Call, AggregateFunctionParams};
use datafusion::logical_expr::{Aggregate, Expr};

use super::pending::Pending;
use super::{Lowered, Lowering, arrow, distinct, physical, physical_all, relation};
use crate::sql::grouping::{AggregateCall, AggregateFunction, Grouping};
use crate::sql::refusal::{Objection, Place};
use crate::sql::relation::Operator;
use crate::sql::row::Codec;

impl Lowering<'_> {
    pub(super) fn lower_aggregate(&mut self, aggregate: &Aggregate) -> Result<Lowered, Objection> {
        let input = self.lower(&aggregate.input)?;
        if let Some(sets) = aggregate.group_expr.iter().find(|expr| matches!(expr, Expr::GroupingSet(_))) {
            let message = "several groupings at once are not maintained; write a SELECT for each, with UNION ALL";
            return Err(Objection::new(Place::of(sets), "GROUPING SETS, ROLLUP, CUBE", message));
        }
        let output = arrow(&aggregate.schema);
        let at_most_one = aggregate.group_expr.is_empty();
        if aggregate.aggr_expr.is_empty() {
            let keys = physical_all(&aggregate.group_expr, &input.schema)?;
            let rows = input.pending.project(keys, &output).relation();
            let schema = Arc::clone(&aggregate.schema);
            return Ok(Lowered { pending: Pending::of(distinct(rows)), schema, at_most_one });
        }
        let keys = physical_all(&aggregate.group_expr, &input.schema)?;
        let results = &output.fields()[keys.len()..];
        let mut calls = Vec::new();
        for (expression, result) in aggregate.aggr_expr.iter().zip(results) {
            calls.push(call(expression, &input, result.data_type())?);
        }
        let rows = input.pending.relation();
        let codec = Codec::new(Arc::clone(&rows.schema));
        let grouping = Arc::new(Grouping::new(codec, keys, calls, Arc::clone(&output)));
        let relation = relation(&grouping.description(), output, vec![rows], |mut inputs| Operator::Reduce {
            input: inputs.remove(0),
            grouping,
        });
        Ok(Lowered { pending: Pending::of(relation), schema: Arc::clone(&aggregate.schema), at_most_one })
    }
}

fn call(
    expression: &Expr,
    input: &Lowered,
    output: &datafusion::arrow::datatypes::DataType,
) -> Result<AggregateCall, Objection> {
    let Expr::AggregateFunction(Call { func, params }) = expression.clone().unalias_nested().data else {
        let message = "it is no aggregate that is maintained";
        return Err(Objection::new(Place::of(expression), expression.human_display().to_string(), message));
    };
    let AggregateFunctionParams { args, distinct, filter, order_by: _, null_treatment: _ } = params;
    let name = func.name().to_owned();
    let refused = |message: &str| Objection::new(Place::Word(name.clone()), format!("{name}()"), message);
    let advice =
        "it is not maintained; there are count, sum, avg, min, max, bool_and, bool_or, with DISTINCT and FILTER";
    let function = AggregateFunction::named(&name).ok_or_else(|| refused(advice))?;
    let argument = match &args[..] {
        [Expr::Literal(value, _)] if function == AggregateFunction::Count && !distinct && !value.is_null() => None,
        [argument] => Some(physical(argument, &input.schema)?),
        _ => return Err(refused("of several values it is not maintained; write it of one")),
    };
    let filter = filter.map(|filter| physical(&filter, &input.schema)).transpose()?;
    let call = AggregateCall { function, argument, filter, distinct, output: output.clone() };
    if !call.is_maintained(&arrow(&input.schema)) {
        return Err(refused("over values of this type it is not maintained; CAST them"));
    }
    Ok(call)
}
