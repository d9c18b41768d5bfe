//! Which plans never have more than one row, whatever there is to read.

use datafusion::common::JoinType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::logical_plan::FetchType;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

use crate::sql::refusal::{Objection, Place};

/// Whether it never has more than one row.
pub(super) fn at_most_one(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(node) => at_most_one(&node.input),
        LogicalPlan::Filter(node) => at_most_one(&node.input),
        LogicalPlan::Window(node) => at_most_one(&node.input),
        LogicalPlan::SubqueryAlias(node) => at_most_one(&node.input),
        LogicalPlan::Subquery(node) => at_most_one(&node.subquery),
        LogicalPlan::Distinct(Distinct::All(input)) => at_most_one(input),
        LogicalPlan::Sort(node) => node.fetch.is_some_and(|fetch| fetch <= 1) || at_most_one(&node.input),
        LogicalPlan::Limit(node) => {
            let fetches_one = matches!(node.get_fetch_type(), Ok(FetchType::Literal(Some(fetch))) if fetch <= 1);
            fetches_one || at_most_one(&node.input)
        }
        LogicalPlan::Aggregate(node) => node.group_expr.is_empty() || at_most_one(&node.input),
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Values(node) => node.values.len() <= 1,
        LogicalPlan::Join(node) => of_join(node.join_type, at_most_one(&node.left), at_most_one(&node.right)),
        _ => false,
    }
}

/// Whether a join never has more than one row, if that is so of the sides.
pub(super) fn of_join(kind: JoinType, left: bool, right: bool) -> bool {
    match kind {
        JoinType::Inner | JoinType::Left | JoinType::Right => left && right,
        // One of each side, where they do not match.
        JoinType::Full => false,
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left,
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right,
    }
}

/// Refuses scalar subqueries that may have more than one row. When the plan is optimised they are joins, and more rows
/// would be no error but more rows.
pub(in crate::sql) fn check_scalar_subqueries(plan: &LogicalPlan) -> Result<(), Objection> {
    let mut objection = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|inner| match inner {
                Expr::ScalarSubquery(subquery) if !at_most_one(&subquery.subquery) => {
                    // LIMIT 1 would have to count the rows of each row around by themselves.
                    let message = match subquery.outer_ref_columns.is_empty() {
                        true => "may have more than one row; write an aggregate, as max(..), or LIMIT 1",
                        false => "may have more than one row; write an aggregate, as max(..)",
                    };
                    let place = Place::of_plan(&subquery.subquery);
                    objection.get_or_insert(Objection::new(place, "scalar subquery", message));
                    Ok(TreeNodeRecursion::Stop)
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })
        })
    })?;
    objection.map_or(Ok(()), Err)
}
