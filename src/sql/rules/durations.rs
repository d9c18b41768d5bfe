//! `now() - updated_at > INTERVAL '7 days'`: the time between two timestamps, compared with an interval by its length.
//!
//! DataFusion makes an interval of the time between two timestamps, which counts nanoseconds, and compares intervals by
//! months, then days, then nanoseconds: a time of ten days, being no day, would be less than `INTERVAL '7 days'`. A day is
//! 24 hours here, as all times are in UTC. A month has no length, so a comparison with one is refused.
//!
//! `extract(epoch FROM now() - updated_at)` is all of its seconds, of which DataFusion would say the whole ones alone.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    Between, BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, binary_expr, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use super::epoch::contains_now;
use super::rewrite_over_inputs;
use crate::sql::refusal::{Objection, Place};

/// Of an interval that is made of others, which has no length.
const NOT_CONSTANT: &str = "intervals that are no constants are not compared; compare the time between two timestamps with one: \
                            a - b > INTERVAL '7 days'";

/// The nanoseconds of a second.
const SECOND: f64 = 1e9;
/// The nanoseconds of a day.
const DAY: i64 = 24 * 3_600 * 1_000_000_000;

/// Compares durations as such.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "durations"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_over_inputs(plan, compare)
    }
}

fn compare(expression: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expression {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
            let lengths = match (duration(&left, schema), duration(&right, schema)) {
                (Some(one), None) => length(&right, schema)?.map(|other| (one, other)),
                (None, Some(other)) => length(&left, schema)?.map(|one| (one, other)),
                (Some(one), Some(other)) => Some((one, other)),
                (None, None) if is_interval(&left, schema) && is_interval(&right, schema) => {
                    let lengths = length(&left, schema)?.zip(length(&right, schema)?);
                    Some(lengths.ok_or_else(|| objection(NOT_CONSTANT).into_error())?)
                }
                (None, None) => None,
            };
            Ok(match lengths {
                Some((left, right)) => Transformed::yes(binary_expr(left, op, right)),
                None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            })
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let lengths = match duration(&expr, schema) {
                Some(inner) => length(&low, schema)?.zip(length(&high, schema)?).map(|(low, high)| (inner, low, high)),
                None if is_interval(&expr, schema) => {
                    let bounds = length(&low, schema)?.zip(length(&high, schema)?);
                    let lengths = length(&expr, schema)?.zip(bounds).map(|(inner, (low, high))| (inner, low, high));
                    Some(lengths.ok_or_else(|| objection(NOT_CONSTANT).into_error())?)
                }
                None => None,
            };
            Ok(match lengths {
                Some((inner, low, high)) => {
                    let between = Between::new(Box::new(inner), negated, Box::new(low), Box::new(high));
                    Transformed::yes(Expr::Between(between))
                }
                None => Transformed::no(Expr::Between(Between { expr, negated, low, high })),
            })
        }
        Expr::ScalarFunction(ScalarFunction { func, mut args }) => {
            let length = match args.pop() {
                Some(length) if is_epoch(&func, &args) && is_length(&length, schema) => length,
                other => {
                    args.extend(other);
                    return Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })));
                }
            };
            let cast = |inner: Expr, kind: DataType| Expr::Cast(Cast::new(Box::new(inner), kind));
            let nanoseconds = cast(cast(length, DataType::Duration(TimeUnit::Nanosecond)), DataType::Int64);
            let seconds = binary_expr(cast(nanoseconds, DataType::Float64), Operator::Divide, lit(SECOND));
            Ok(Transformed::yes(seconds))
        }
        expression => Ok(Transformed::no(expression)),
    }
}

/// Whether a function is asked for all seconds. `before`: its arguments but the last.
fn is_epoch(function: &ScalarUDF, before: &[Expr]) -> bool {
    match before {
        [Expr::Literal(part, _)] if function.name() == "date_part" => {
            part.try_as_str().flatten().is_some_and(|part| part.eq_ignore_ascii_case("epoch"))
        }
        _ => false,
    }
}

fn is_interval(expression: &Expr, schema: &DFSchema) -> bool {
    matches!(expression.get_type(schema), Ok(DataType::Interval(_)))
}

fn is_length(expression: &Expr, schema: &DFSchema) -> bool {
    matches!(expression.get_type(schema), Ok(DataType::Duration(_)))
}

fn is_comparison(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

/// What was made an interval for a comparison, but is a duration.
fn duration(expression: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::Cast(Cast { expr, field }) = expression else { return None };
    let is_interval = matches!(field.data_type(), DataType::Interval(_));
    let was_duration = matches!(expr.get_type(schema), Ok(DataType::Duration(_)));
    (is_interval && was_duration).then(|| Expr::Cast(Cast::new(expr.clone(), DataType::Duration(TimeUnit::Nanosecond))))
}

/// The length of a constant interval; none for what is not constant.
fn length(expression: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let constant = match expression {
        Expr::Literal(value, _) => value.clone(),
        expression if expression.column_refs().is_empty() && !contains_now(expression) => {
            let context = SimplifyContext::builder().with_schema(schema.clone().into()).build();
            match ExprSimplifier::new(context).simplify(expression.clone())? {
                Expr::Literal(value, _) => value,
                _ => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    let ScalarValue::IntervalMonthDayNano(interval) = constant else { return Ok(None) };
    let nanoseconds = match interval {
        None => None,
        Some(interval) if interval.months == 0 => {
            let days = i64::from(interval.days).checked_mul(DAY);
            let sum = days.and_then(|days| days.checked_add(interval.nanoseconds));
            let too_long = || objection("this interval is longer than 292 years; write a shorter one").into_error();
            Some(sum.ok_or_else(too_long)?)
        }
        Some(_) => {
            let message =
                "a month has no fixed length; compare with days, or write updated_at + INTERVAL '1 month' < now()";
            return Err(objection(message).into_error());
        }
    };
    Ok(Some(Expr::Literal(ScalarValue::DurationNanosecond(nanoseconds), None)))
}

fn objection(message: &str) -> Objection {
    Objection::new(Place::Word("INTERVAL".to_owned()), "INTERVAL", message)
}
