//! Which subqueries an expression has, and what stands in one of the row around it. Not here: what becomes of them (`rules`),
//! and why one is refused (`refusal`).

use datafusion::common::Column;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::{Expr, Subquery};

/// The subquery that an expression itself has.
pub(super) fn subquery_of(expression: &Expr) -> Option<&Subquery> {
    match expression {
        Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. })
        | Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

/// Whether there is one in the expression.
pub(super) fn has_subquery(expression: &Expr) -> bool {
    expression.exists(|inner| Ok(subquery_of(inner).is_some())).expect("nothing fails")
}

/// The column of the row around that an expression is.
pub(super) fn outer_column(expression: &Expr) -> Option<&Column> {
    match expression {
        Expr::OuterReferenceColumn(_, column) => Some(column),
        _ => None,
    }
}
