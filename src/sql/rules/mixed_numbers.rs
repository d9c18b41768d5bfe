//! Numbers of two kinds meet as SQL has it: a decimal is compared with a float as one, and whole numbers without a sign are
//! computed with as if they had one.
//!
//! DataFusion compares the former as decimals of fifteen digits after the point, so that what is less is nothing, and makes
//! decimals of the latter, so that `row_number() / 2` is 0.5. A constant is compared as the decimal that is written.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite_over_inputs;

/// Casts them to what they meet as.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "mixed_numbers"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_over_inputs(plan, |expression, input| Ok(met(expression, input)))
    }
}

fn met(expression: Expr, input: &DFSchema) -> Transformed<Expr> {
    match expression {
        Expr::BinaryExpr(BinaryExpr { mut left, op, mut right }) => {
            let is_met = pair(&mut left, op, &mut right, input);
            Transformed::new_transformed(Expr::BinaryExpr(BinaryExpr { left, op, right }), is_met)
        }
        Expr::Between(Between { mut expr, negated, mut low, mut high }) => {
            let is_met = pair(&mut expr, Operator::GtEq, &mut low, input)
                | pair(&mut expr, Operator::LtEq, &mut high, input)
                | pair(&mut expr, Operator::GtEq, &mut low, input);
            Transformed::new_transformed(Expr::Between(Between { expr, negated, low, high }), is_met)
        }
        expression => Transformed::no(expression),
    }
}

/// Casts one of two, or both; whether it did.
fn pair(left: &mut Expr, op: Operator, right: &mut Expr, input: &DFSchema) -> bool {
    let (Ok(one), Ok(other)) = (left.get_type(input), right.get_type(input)) else { return false };
    let is_constant = |side: &Expr| matches!(side, Expr::Literal(..));
    let is_computed =
        matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo);
    match (one.is_decimal(), other.is_decimal()) {
        (true, false) if !is_computed && other.is_floating() && !is_constant(right) => cast(left, DataType::Float64),
        (false, true) if !is_computed && one.is_floating() && !is_constant(left) => cast(right, DataType::Float64),
        _ if is_computed && one.is_integer() && other.is_integer() => {
            let signed = |side: &mut Expr, kind: &DataType| kind.is_unsigned_integer() && cast(side, DataType::Int64);
            signed(left, &one) | signed(right, &other)
        }
        _ => false,
    }
}

fn cast(expression: &mut Expr, kind: DataType) -> bool {
    let inner = std::mem::take(expression);
    *expression = Expr::Cast(Cast::new(Box::new(inner), kind));
    true
}
