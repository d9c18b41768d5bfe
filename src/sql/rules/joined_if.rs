//! Subqueries in `ON` become conditions in `WHERE`, which are what can be maintained.
//!
//! Pairs of an inner join are filtered as well after it as in it. Of an outer join only a condition on the side whose rows
//! may find no partner for it can be met before: other ones are refused, since what DataFusion makes of them takes what
//! is not known for false.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use crate::sql::refusal::{Objection, Place};

/// Takes subqueries out of the conditions of joins.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "joined_if"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewrite = |node| match node {
            LogicalPlan::Join(join) if join.filter.as_ref().is_some_and(has_subquery) => {
                without_subqueries(join).map(Transformed::yes)
            }
            node => Ok(Transformed::no(node)),
        };
        Ok(plan.transform_up_with_subqueries(rewrite)?.data)
    }
}

fn has_subquery(expression: &Expr) -> bool {
    let is_one = |inner: &Expr| Ok(matches!(inner, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_)));
    expression.exists(is_one).expect("nothing fails")
}

fn without_subqueries(mut join: Join) -> Result<LogicalPlan> {
    let conditions = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
    let (subqueries, others): (Vec<_>, Vec<_>) = conditions.into_iter().partition(has_subquery);
    let (mut after, mut on_left, mut on_right, mut kept) = (Vec::new(), Vec::new(), Vec::new(), others);
    for condition in subqueries {
        let is_of = |side: &LogicalPlan| is_of(&condition, side.schema());
        match join.join_type {
            JoinType::Inner => after.push(condition),
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti if is_of(&join.right)? => on_right.push(condition),
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti if is_of(&join.left)? => {
                on_left.push(condition);
            }
            _ if is_predicate(&condition) => return Err(refused(&condition)),
            _ => kept.push(condition),
        }
    }
    join.filter = conjunction(kept);
    join.left = filtered(join.left, on_left)?;
    join.right = filtered(join.right, on_right)?;
    Ok(Arc::unwrap_or_clone(filtered(Arc::new(LogicalPlan::Join(join)), after)?))
}

fn filtered(plan: Arc<LogicalPlan>, conditions: Vec<Expr>) -> Result<Arc<LogicalPlan>> {
    match conjunction(conditions) {
        Some(condition) => Ok(Arc::new(LogicalPlan::Filter(Filter::try_new(condition, plan)?))),
        None => Ok(plan),
    }
}

/// Whether a condition, with the subqueries in it, is about these columns alone.
fn is_of(condition: &Expr, schema: &DFSchema) -> Result<bool> {
    let mut is_of = true;
    let mut see = |column: &Column| is_of &= schema.has_column(column);
    condition.apply(|inner| {
        match inner {
            Expr::Column(column) => see(column),
            Expr::Exists(Exists { subquery, .. })
            | Expr::ScalarSubquery(subquery)
            | Expr::InSubquery(InSubquery { subquery, .. }) => {
                for outer in &subquery.outer_ref_columns {
                    match outer {
                        Expr::OuterReferenceColumn(_, column) | Expr::Column(column) => see(column),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(is_of)
}

fn is_predicate(condition: &Expr) -> bool {
    let is_one = |inner: &Expr| Ok(matches!(inner, Expr::InSubquery(_) | Expr::Exists(_)));
    condition.exists(is_one).expect("nothing fails")
}

fn refused(condition: &Expr) -> datafusion::error::DataFusionError {
    let message = "a subquery in the condition of an outer join can only be about the side whose rows may be missing; \
                   write it in WHERE of a subquery that is joined: LEFT JOIN (SELECT .. WHERE ..) ON ..";
    let place = match Place::of(condition) {
        Place::Query => Place::Words(&["ON"]),
        place => place,
    };
    Objection::new(place, "subquery in ON", message).into_error()
}
