//! `+`, `-` and `*` of whole numbers fail where the result has no room, and so do those of decimals, and `-x`.

use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite_over_inputs;
use crate::sql::functions::arithmetic;

/// Puts functions where operators stand.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "overflows"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_over_inputs(plan, |expression, input| Ok(checked(expression, input)))
    }
}

fn checked(expression: Expr, input: &DFSchema) -> Transformed<Expr> {
    let is_whole = |side: &Expr| side.get_type(input).is_ok_and(|kind| kind.is_integer());
    match expression {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let may_lack_room = is_whole(&left) && is_whole(&right) || is_full(&left, op, &right, input);
            match arithmetic::function(op).filter(|_| may_lack_room) {
                Some(func) => {
                    Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: vec![*left, *right] }))
                }
                None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            }
        }
        Expr::Negative(inner) if is_whole(&inner) => {
            let func = arithmetic::function(Operator::Minus).expect("it is among them");
            // What has no sign has one then.
            let (kind, inner) = match inner.get_type(input) {
                Ok(own) if own.is_signed_integer() => (own, *inner),
                _ => (DataType::Int64, Expr::Cast(Cast::new(inner, DataType::Int64))),
            };
            let nothing = ScalarValue::new_zero(&kind).expect("there is a whole number that is nothing");
            let args = vec![Expr::Literal(nothing, None), inner];
            Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
        }
        expression => Transformed::no(expression),
    }
}

/// Whether it is a decimal of as many digits as one can have, so that there may be no room for another one.
fn is_full(left: &Expr, op: Operator, right: &Expr, input: &DFSchema) -> bool {
    let (Ok(left), Ok(right)) = (left.get_type(input), right.get_type(input)) else { return false };
    match BinaryTypeCoercer::new(&left, &op, &right).get_result_type() {
        Ok(DataType::Decimal128(digits, _)) => digits == DECIMAL128_MAX_PRECISION,
        Ok(DataType::Decimal256(digits, _)) => digits == DECIMAL256_MAX_PRECISION,
        _ => false,
    }
}
