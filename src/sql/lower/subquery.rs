//! Subqueries that are left when a plan is optimised: those that are no join.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Expr;

use crate::sql::refusal::{Objection, Place};

const PREDICATE: &str = "is maintained as a condition in WHERE, where it meets the rows around it by equalities; write it \
                         so, or a LEFT JOIN with SELECT DISTINCT .. and IS NOT NULL";

const SCALAR: &str = "is maintained as an aggregate that meets the rows around it by equalities; write a JOIN with \
                      SELECT .. GROUP BY";

const SAME: &str = "is the same for all rows, which is maintained in WHERE and in SELECT; write CROSS JOIN \
                    (SELECT max(..) AS m FROM ..), and m here";

/// What is refused of an expression with a subquery in it.
pub(super) fn left_in(expression: &Expr) -> Option<Objection> {
    let mut found = None;
    expression
        .apply(|inner| {
            let refused = match inner {
                Expr::InSubquery(_) => ("IN (SELECT ..)", PREDICATE),
                Expr::Exists(_) => ("EXISTS (SELECT ..)", PREDICATE),
                Expr::SetComparison(_) => ("ANY, ALL (SELECT ..)", PREDICATE),
                Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => ("scalar subquery", SAME),
                Expr::ScalarSubquery(_) | Expr::OuterReferenceColumn(..) => ("scalar subquery", SCALAR),
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            found = Some((inner.clone(), refused));
            Ok(TreeNodeRecursion::Stop)
        })
        .expect("nothing fails");
    found.map(|(inner, (construct, message))| Objection::new(Place::of(&inner), construct, message))
}
