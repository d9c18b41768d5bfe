//! Conditions on `now()`: stub.

use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::Expr;

use crate::sql::bounds::Bounds;
use crate::sql::refusal::{Objection, Place};

/// Whether an expression depends on the time of the epoch.
pub(in crate::sql) fn mentions_now(expression: &Expr) -> bool {
    expression.exists(|inner| Ok(matches!(inner, Expr::Placeholder(_)))).expect("nothing fails")
}

/// The refusal of `now()` where it is not maintained.
pub(in crate::sql) fn misplaced(expression: &Expr) -> Objection {
    Objection::new(Place::of(expression), "now()", "only comparisons with it are maintained, in WHERE")
}

/// From when and until when rows count for which these are true.
pub(in crate::sql) fn bounds(conjuncts: &[Expr], _schema: &DFSchema) -> Result<Bounds, Objection> {
    Err(misplaced(&conjuncts[0]))
}
