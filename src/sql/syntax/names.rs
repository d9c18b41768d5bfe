//! Names of columns that stand after `WITH name`, given to what is selected; and numbers to what is selected and sorted by.
//!
//! DataFusion gives them to the rows of the query, once it has planned it; but what is selected twice (`WITH r (a, b) AS
//! (SELECT x, x ..)`) cannot be planned without names of its own.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Cte, Distinct, Expr, GroupByExpr, OrderBy, OrderByKind, Query, Select, SelectItem, SetExpr, Value, VisitMut,
    VisitorMut,
};

/// Gives their names to all queries in `WITH` that select something twice, and numbers to what is sorted by.
pub(super) fn give(query: &mut Query) {
    let _: ControlFlow<()> = query.visit(&mut Names);
}

struct Names;

impl VisitorMut for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        query.with.iter_mut().flat_map(|with| &mut with.cte_tables).for_each(name);
        if let (SetExpr::Select(select), Some(OrderBy { kind: OrderByKind::Expressions(keys), .. })) =
            (&*query.body, &mut query.order_by)
        {
            keys.iter_mut().for_each(|key| number(&mut key.expr, select));
        }
        ControlFlow::Continue(())
    }
}

/// `SELECT a + b AS a .. ORDER BY a + b` is by the first column; DataFusion looks for columns, of which one may be called so
/// that is selected, and one may be gone.
fn number(key: &mut Expr, select: &Select) {
    let (selected, is_distinct) = (&select.projection, matches!(select.distinct, Some(Distinct::Distinct)));
    let is_name = matches!(key, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_));
    if is_name || matches!(select.distinct, Some(Distinct::On(_))) {
        return;
    }
    let place = selected.iter().position(|item| match item {
        SelectItem::ExprWithAlias { expr, .. } => *expr == *key,
        SelectItem::UnnamedExpr(expr) => is_distinct && *expr == *key,
        _ => false,
    });
    // Before a star it cannot be told which number that is.
    let is_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let is_plain = !selected.iter().any(is_star);
    if let Some(place) = place.filter(|_| is_plain) {
        *key = Expr::Value(Value::Number((place + 1).to_string(), false).with_empty_span());
    }
}

fn name(cte: &mut Cte) {
    let Cte { alias, query, .. } = cte;
    if query.order_by.is_some() {
        return;
    }
    let Some(select) = first_select(&mut query.body) else { return };
    if select.projection.len() != alias.columns.len() || !is_plain(select) || !selects_twice(select) {
        return;
    }
    for (item, column) in select.projection.iter_mut().zip(&alias.columns) {
        if let SelectItem::UnnamedExpr(expr) = item {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: column.name.clone() };
        }
    }
}

fn first_select(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

/// Whether nothing beside what is selected could mean these names.
fn is_plain(select: &Select) -> bool {
    let groups = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    !groups && select.having.is_none() && select.qualify.is_none() && !matches!(select.distinct, Some(Distinct::On(_)))
}

fn selects_twice(select: &Select) -> bool {
    let mut seen = BTreeSet::new();
    select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(expr) => {
            let text = expr.to_string();
            let last = text.rsplit('.').next().unwrap_or_default().to_owned();
            !seen.insert(last)
        }
        _ => false,
    })
}
