//! Subqueries in `ON` become conditions in `WHERE`, which are what can be maintained, and so does what names the row around
//! a subquery in `ON` of an inner join.
//!
//! Pairs of an inner join are filtered as well after it as in it. Of an outer join only a condition on the side whose rows
//! may find no partner for it can be met before: other ones are refused, since what DataFusion makes of them takes what
//! is not known for false.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use crate::sql::refusal::{Objection, Place};
use crate::sql::subquery::{has_subquery, outer_column, subquery_of};

/// Takes subqueries out of the conditions of joins.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "joined_if"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewrite = |node| match node {
            LogicalPlan::Join(join) if join.filter.as_ref().is_some_and(|filter| is_taken_out(filter, &join)) => {
                without_subqueries(join).map(Transformed::yes)
            }
            node => Ok(Transformed::no(node)),
        };
        Ok(plan.transform_up_with_subqueries(rewrite)?.data)
    }
}

/// Whether a condition in `ON` is one that is better elsewhere.
fn is_taken_out(condition: &Expr, join: &Join) -> bool {
    has_subquery(condition) || join.join_type == JoinType::Inner && condition.contains_outer()
}

fn without_subqueries(mut join: Join) -> Result<LogicalPlan> {
    let conditions = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
    let (taken, others): (Vec<_>, Vec<_>) =
        conditions.into_iter().partition(|condition| is_taken_out(condition, &join));
    let (mut after, mut on_left, mut on_right, mut kept) = (Vec::new(), Vec::new(), Vec::new(), others);
    for condition in taken {
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
        if let Expr::Column(column) = inner {
            see(column);
        }
        let outer = subquery_of(inner).into_iter().flat_map(|subquery| &subquery.outer_ref_columns);
        outer.filter_map(outer_column).for_each(&mut see);
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(is_of)
}

fn is_predicate(condition: &Expr) -> bool {
    let is_one = |inner: &Expr| subquery_of(inner).is_some() && !matches!(inner, Expr::ScalarSubquery(_));
    condition.exists(|inner| Ok(is_one(inner))).expect("nothing fails")
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
