//! `SELECT -count AS count .. ORDER BY count + 1`: a name that is two things.
//!
//! For SQL `count` alone is what is selected there, and in an expression it is the column of the table; DataFusion takes it
//! for what is selected both times. Whoever writes it is asked for another name.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Ident, OrderBy, OrderByKind, Query, SelectItem, SetExpr, Visit, Visitor};

use super::refuse;
use crate::sql::refusal::Objection;
use crate::sql::syntax::expansion::folded;

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
        if is_the_column || named_in(expr, alias, true).is_none() {
            continue;
        }
        let within = keys.iter().filter(|key| !matches!(key.expr, Expr::Identifier(_)));
        if let Some(name) = within.map(|key| named_in(&key.expr, alias, false)).find_map(|name| name) {
            let message =
                "is what is selected under this name, and a column of the table; give the former another name";
            return refuse(name.span, format!("column {name}"), message);
        }
    }
    ControlFlow::Continue(())
}

/// Where an expression itself names this column, not a subquery in it. `of_tables`: with the name of a table, too.
fn named_in(expression: &Expr, column: &Ident, of_tables: bool) -> Option<Ident> {
    let mut named = Named { column, of_tables, depth: 0 };
    expression.visit(&mut named).break_value()
}

struct Named<'a> {
    column: &'a Ident,
    of_tables: bool,
    /// In how many subqueries the walk is.
    depth: usize,
}

impl Visitor for Named<'_> {
    type Break = Ident;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Ident> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Ident> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Ident> {
        let name = match expression {
            Expr::Identifier(name) => Some(name),
            Expr::CompoundIdentifier(names) if self.of_tables => names.last(),
            _ => None,
        };
        match name.filter(|name| self.depth == 0 && folded(name) == folded(self.column)) {
            Some(name) => ControlFlow::Break(name.clone()),
            None => ControlFlow::Continue(()),
        }
    }
}
