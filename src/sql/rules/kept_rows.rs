//! A condition over an aggregate without `GROUP BY` stays there: its one row is there of nothing too.
//!
//! DataFusion pushes down what reads nothing but what is grouped by, and a condition that reads no column (because what it
//! read was a constant) reads nothing but that. Below, it takes away what is counted, and not the count.

use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::push_down_filter::PushDownFilter;

use super::Around;

/// DataFusion's rule, but for such conditions.
pub(in crate::sql) fn rule() -> impl OptimizerRule {
    Around {
        rule: PushDownFilter::new(),
        rewrite: |rule, plan, config| {
            if is_over_one_row(&plan) { Ok(Transformed::no(plan)) } else { rule.rewrite(plan, config) }
        },
    }
}

/// Whether it is a condition, or several, over an aggregate that may have a row of nothing: one without `GROUP BY`, which
/// has nothing to push one by, or one with grouping sets.
fn is_over_one_row(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Filter(filter) = plan else { return false };
    match filter.input.as_ref() {
        LogicalPlan::Aggregate(aggregate) => match &aggregate.group_expr[..] {
            [] => true,
            // One of them may be empty.
            grouped => grouped.iter().any(|expression| matches!(expression, Expr::GroupingSet(_))),
        },
        input => is_over_one_row(input),
    }
}
