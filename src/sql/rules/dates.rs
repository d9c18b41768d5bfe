//! `DATE '2024-01-01' + INTERVAL '36 hours'` is a time, as it is for SQL.
//!
//! For DataFusion it is a date, and what is less than a day is gone. With whole days and months it stays one.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite_over_inputs;

/// Makes times of such dates, before types are decided.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "dates"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_over_inputs(plan, |expression, input| Ok(moved(expression, input)))
    }
}

fn moved(expression: Expr, input: &DFSchema) -> Transformed<Expr> {
    match expression {
        Expr::BinaryExpr(BinaryExpr { mut left, op: op @ (Operator::Plus | Operator::Minus), mut right }) => {
            let is_time =
                as_time(&mut left, &right, input) || op == Operator::Plus && as_time(&mut right, &left, input);
            Transformed::new_transformed(Expr::BinaryExpr(BinaryExpr { left, op, right }), is_time)
        }
        expression => Transformed::no(expression),
    }
}

/// Makes a time of a date that is moved by less than days; whether it did.
fn as_time(date: &mut Expr, by: &Expr, input: &DFSchema) -> bool {
    let is_fine = match by {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(by)), _) => by.nanoseconds != 0,
        Expr::Literal(ScalarValue::IntervalDayTime(Some(by)), _) => by.milliseconds != 0,
        _ => false,
    };
    if !is_fine || !matches!(date.get_type(input), Ok(DataType::Date32 | DataType::Date64)) {
        return false;
    }
    let inner = Box::new(std::mem::take(date));
    *date = Expr::Cast(Cast::new(inner, DataType::Timestamp(TimeUnit::Nanosecond, None)));
    true
}
