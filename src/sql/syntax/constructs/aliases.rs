//! `SELECT -count AS count .. ORDER BY count + 1`: a name that is two things.
//!
//! For SQL `count` alone is what is selected there, and in an expression it is the column of the table; DataFusion takes it
//! for what is selected both times. Whoever writes it is asked for another name.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, OrderBy, OrderByKind, Query, SelectItem, SetExpr, visit_expressions,
};

use super::refuse;
use crate::sql::refusal::Objection;

/// Refuses such a name.
pub(super) fn check(query: &Query) -> ControlFlow<Objection> {
    let (SetExpr::Select(select), Some(OrderBy { kind: OrderByKind::Expressions(keys), .. })) =
        (&*query.body, &query.order_by)
    else {
        return ControlFlow::Continue(());
    };
    for item in &select.projection {
        let SelectItem::ExprWithAlias { expr, alias } = item else { continue };
        let is_the_column = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        if is_the_column || named_in(expr, alias).is_none() {
            continue;
        }
        let within = keys.iter().filter(|key| !matches!(key.expr, Expr::Identifier(_)));
        if let Some(name) = within.map(|key| named_in(&key.expr, alias)).find_map(|name| name) {
            let message =
                "is what is selected under this name, and a column of the table; give the former another name";
            return refuse(name.span, format!("column {name}"), message);
        }
    }
    ControlFlow::Continue(())
}

/// Where an expression names this column without its table.
fn named_in(expression: &Expr, column: &Ident) -> Option<Ident> {
    let found = visit_expressions(expression, |inner| match inner {
        Expr::Identifier(name) if name.value == column.value => ControlFlow::Break(name.clone()),
        _ => ControlFlow::Continue(()),
    });
    found.break_value()
}
