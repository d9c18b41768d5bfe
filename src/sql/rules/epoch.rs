//! `now()`, `current_timestamp`, `current_date`, `today()`, `current_time`: the epoch, at which a view or a query is read.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::{Cast, Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite_expressions;
use crate::model::Epoch;
use crate::sql::table::TIME_ZONE;

/// The name of what stands for the epoch. No query can contain it: parameters are refused.
const PLACEHOLDER: &str = "$now";

/// What `now()` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) enum Now {
    /// The view's epoch, whichever it comes to be.
    Passing,
    /// This epoch.
    At(Epoch),
}

/// The type of `now()`: that of all times in tables.
pub(in crate::sql) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(TIME_ZONE.into()))
}

/// Whether an expression is the passing time.
pub(in crate::sql) fn is_now(expression: &Expr) -> bool {
    matches!(expression, Expr::Placeholder(placeholder) if placeholder.id == PLACEHOLDER)
}

/// Whether an expression depends on the passing time.
pub(in crate::sql) fn contains_now(expression: &Expr) -> bool {
    expression.exists(|inner| Ok(is_now(inner))).expect("nothing fails")
}

impl Now {
    /// As an expression.
    pub(in crate::sql) fn expression(self) -> Expr {
        match self {
            Self::Passing => {
                let field = Arc::new(Field::new("now()", time_type(), true));
                Expr::Placeholder(Placeholder::new_with_field(PLACEHOLDER.to_owned(), Some(field)))
            }
            Self::At(epoch) => {
                let nanoseconds = i64::try_from(epoch).ok().and_then(|ms| ms.checked_mul(1_000_000));
                // In the year 2262 there is no time any more that a timestamp can hold.
                Expr::Literal(ScalarValue::TimestampNanosecond(nanoseconds, Some(TIME_ZONE.into())), None)
            }
        }
    }

    /// What a function of the time is; none for other functions.
    fn function(self, name: &str) -> Option<Expr> {
        let cast = |kind| Expr::Cast(Cast::new(Box::new(self.expression()), kind));
        match name {
            "now" => Some(self.expression()),
            "current_date" => Some(cast(DataType::Date32)),
            "current_time" => Some(cast(DataType::Time64(TimeUnit::Nanosecond))),
            _ => None,
        }
    }
}

/// Puts the epoch in the place of functions of the time.
#[derive(Debug)]
pub(super) struct Rule(pub(super) Now);

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "epoch"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let replaced = |expression| match expression {
            Expr::ScalarFunction(ScalarFunction { func, args }) if args.is_empty() => {
                match self.0.function(func.name()) {
                    Some(time) => Ok(Transformed::yes(time)),
                    None => Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))),
                }
            }
            expression => Ok(Transformed::no(expression)),
        };
        let plan = plan.transform_up_with_subqueries(|node| {
            rewrite_expressions(node, |expression| expression.transform_up(replaced))
        })?;
        Ok(plan.data)
    }
}
