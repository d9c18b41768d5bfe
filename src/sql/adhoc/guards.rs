//! Conditions that guard what stands after them: in `m <> 0 AND 10 / m > 1` nothing is divided by zero.
//!
//! DataFusion evaluates both sides of `AND` and `OR` for all rows of a batch unless almost all are decided by the left one,
//! so whether a query fails would depend on which rows there are beside one another. Here the right side, if it may fail,
//! is evaluated for those rows alone that the left one does not decide, as it is of views.
//!
//! In: a physical plan. Out: the same, with such conditions of its filters as `CASE`, which is lazy.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};

/// The plan, whose filters evaluate in order.
pub(super) fn guarded(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let each = |node: Arc<dyn ExecutionPlan>| {
        let Some(filter) = node.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(node)) };
        let predicate = condition(filter.predicate())?;
        if Arc::ptr_eq(&predicate, filter.predicate()) {
            return Ok(Transformed::no(node));
        }
        let filter = FilterExecBuilder::from(filter).with_predicate(predicate).build()?;
        Ok(Transformed::yes(Arc::new(filter) as Arc<dyn ExecutionPlan>))
    };
    plan.transform_up(each).map(|transformed| transformed.data)
}

/// What is true of the same rows. Only rows for which it is true count, so null may be false.
fn condition(predicate: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let Some(binary) = predicate.downcast_ref::<BinaryExpr>() else { return Ok(Arc::clone(predicate)) };
    let operator = *binary.op();
    if !matches!(operator, Operator::And | Operator::Or) {
        return Ok(Arc::clone(predicate));
    }
    let (left, right) = (condition(binary.left())?, condition(binary.right())?);
    if may_fail(&right) {
        let decided = |value: bool| Arc::new(Literal::new(ScalarValue::Boolean(Some(value)))) as Arc<dyn PhysicalExpr>;
        let (then, otherwise) = match operator {
            Operator::And => (right, decided(false)),
            _ => (decided(true), right),
        };
        return Ok(Arc::new(CaseExpr::try_new(None, vec![(left, then)], Some(otherwise))?));
    }
    if Arc::ptr_eq(&left, binary.left()) && Arc::ptr_eq(&right, binary.right()) {
        return Ok(Arc::clone(predicate));
    }
    Ok(Arc::new(BinaryExpr::new(left, operator, right)))
}

/// Whether it computes anything, rather than comparing what is there.
fn may_fail(expression: &Arc<dyn PhysicalExpr>) -> bool {
    let mut may_fail = false;
    let looked = expression.apply(|part| {
        let is_harmless = match part.downcast_ref::<BinaryExpr>() {
            Some(binary) => binary.op().supports_propagation() || binary.op().is_logic_operator(),
            None => {
                part.is::<Column>()
                    || part.is::<Literal>()
                    || part.is::<NotExpr>()
                    || part.is::<IsNullExpr>()
                    || part.is::<IsNotNullExpr>()
                    || part.is::<InListExpr>()
                    || part.is::<LikeExpr>()
            }
        };
        may_fail |= !is_harmless;
        Ok(if may_fail { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    looked.is_err() || may_fail
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;
    use crate::sql::samples::{Cut, answer, collect, plan, session};

    #[test]
    fn what_stands_after_a_condition_is_evaluated_of_the_rows_that_it_leaves() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(2), Some(3), Some(4), None]));
        let session = session(&RecordBatch::try_from_iter([("m", column)]).expect("a table"), Cut::WHOLE);
        for (sql, rows) in [
            ("SELECT m FROM t WHERE m <> 0 AND 10 / m > 3", 2),
            ("SELECT m FROM t WHERE m = 0 OR 10 / m > 3", 3),
            ("SELECT m FROM t WHERE m <> 0 AND (m = 4 OR 10 / m / (m - 4) < 0)", 4),
        ] {
            answer(&session, sql).expect_err("it is not guarded by itself");
            let guarded = guarded(plan(&session, sql)).expect("a plan");
            assert_eq!(collect(&session, guarded).num_rows(), rows, "{sql}");
        }
    }
}
