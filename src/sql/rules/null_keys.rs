//! Joins that hold nulls equal stay apart from those that do not.
//!
//! To find an order in which every join has a key, DataFusion takes a row of inner joins and what is asked of it apart and
//! makes other joins of that, all of which hold nulls equal if the last one did. So where one does
//! (`ON a.x IS NOT DISTINCT FROM b.x`), joins stay as they were written. And to a key that holds nulls equal no other is
//! added, which does not: that stays a condition.

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{NullEquality, Result};
use datafusion::logical_expr::{JoinType, LogicalPlan};
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;

use super::Around;

/// DataFusion's rule that puts joins into another order, but for such joins.
pub(in crate::sql) fn order() -> impl OptimizerRule {
    Around {
        rule: EliminateCrossJoin::new(),
        rewrite: |rule, plan, config| {
            if holds_nulls_equal(&plan)? { Ok(Transformed::no(plan)) } else { rule.rewrite(plan, config) }
        },
    }
}

/// DataFusion's rule that makes keys of conditions, but for such joins.
pub(in crate::sql) fn keys() -> impl OptimizerRule {
    Around {
        rule: ExtractEquijoinPredicate::new(),
        rewrite: |rule, plan, config| match &plan {
            LogicalPlan::Join(join) if join.null_equality == NullEquality::NullEqualsNull && !join.on.is_empty() => {
                Ok(Transformed::no(plan))
            }
            _ => rule.rewrite(plan, config),
        },
    }
}

fn holds_nulls_equal(plan: &LogicalPlan) -> Result<bool> {
    let mut holds = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = node {
            holds |= join.join_type == JoinType::Inner && join.null_equality == NullEquality::NullEqualsNull;
        }
        Ok(if holds { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(holds)
}
