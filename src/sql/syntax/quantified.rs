//! `x = ANY (SELECT ..)` is `x IN (SELECT ..)`, and `x <> ALL (SELECT ..)` is `x NOT IN (SELECT ..)`: written so, they are
//! maintained as these are.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Query, VisitMut, VisitorMut};

/// Writes those as these.
pub(super) fn write_out(query: &mut Query) {
    let _: ControlFlow<()> = query.visit(&mut Quantified);
}

struct Quantified;

impl VisitorMut for Quantified {
    type Break = ();

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        let (expr, within, negated) = match expression {
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, is_some: _ } => (left, &**right, false),
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, &**right, true),
            _ => return ControlFlow::Continue(()),
        };
        if let Expr::Subquery(subquery) = within {
            *expression = Expr::InSubquery { expr: expr.clone(), subquery: subquery.clone(), negated };
        }
        ControlFlow::Continue(())
    }
}
