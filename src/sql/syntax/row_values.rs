//! `(a, b) = (1, 'x')`: rows of values are compared value by value.
//!
//! DataFusion makes structures of them, in which null equals null, so that `(a, b) = (a, b)` would be true where `a` is null,
//! and `(a, b) NOT IN ((1, NULL))` too. SQL does not know it there. So a comparison of two rows is written out as
//! comparisons of what is in them: `a = 1 AND b = 'x'`, and `a < 1 OR a = 1 AND b < 'x'`. So are `ORDER BY (a, b) DESC`, which
//! is by each of them, and `GROUP BY (a, b)`.
//!
//! Not here: rows elsewhere, of which no column is made (`constructs`).

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, OrderBy, OrderByExpr,
    OrderByKind, OrderByOptions, Query, Select, SelectItem, SetExpr, Spanned, UnaryOperator, VisitMut, VisitorMut,
};

use super::TEXT_BYTES_MAX;
use crate::sql::refusal::{Objection, Place};

/// So many values rows may have that are compared by their order: each stands deeper than the one before it.
const ORDERED_MAX: usize = 32;

/// Writes them out in all expressions of the query.
pub(super) fn write_out(query: &mut Query) -> Result<(), Objection> {
    match query.visit(&mut RowValues { bytes: 0 }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(objection) => Err(objection),
    }
}

struct RowValues {
    /// How long what was written out is: what is looked for in a list is written as often as the list is long.
    bytes: usize,
}

impl VisitorMut for RowValues {
    type Break = Objection;

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Objection> {
        match self.written_out(expression) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(written)) => {
                *expression = Expr::Nested(Box::new(written));
                ControlFlow::Continue(())
            }
            Err(objection) => ControlFlow::Break(objection),
        }
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Objection> {
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
            let each = keys.drain(..).flat_map(|key| match key {
                Expr::Tuple(values) if !values.is_empty() => values,
                key => vec![key],
            });
            *keys = each.collect();
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Objection> {
        let selected = match &*query.body {
            SetExpr::Select(select) => &select.projection[..],
            _ => &[],
        };
        if let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = &mut query.order_by {
            let mut within = keys.iter().filter_map(|key| values(&key.expr)).flatten();
            if let Some(value) = within.find(|value| means_another(value, selected)) {
                let message =
                    "within a row it is a column of the table, and alone what is selected; order by each by itself";
                return ControlFlow::Break(refused(value, message.to_owned()));
            }
            let each = keys.drain(..).flat_map(|key| match values(&key.expr) {
                // A row is never null itself, so NULLS says nothing of it; in it nulls are greater than all others.
                Some(row) => {
                    let options = OrderByOptions { nulls_first: None, ..key.options };
                    let by = |value: &Expr| OrderByExpr { expr: value.clone(), options, with_fill: None };
                    row.into_iter().map(by).collect()
                }
                None => vec![key],
            });
            *keys = each.collect();
        }
        ControlFlow::Continue(())
    }
}

impl RowValues {
    /// What a comparison of rows means; nothing for others.
    fn written_out(&mut self, expression: &Expr) -> Result<Option<Expr>, Objection> {
        Ok(Some(match expression {
            Expr::BinaryOp { left, op, right } if is_comparison(op) && has_row([&**left, &**right]) => {
                self.compared(left, op, right)?
            }
            // What follows with AND and OR is taken for a part of it, which is refused later.
            Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right)
                if matches!(**right, Expr::BinaryOp { .. }) =>
            {
                return Ok(None);
            }
            Expr::IsDistinctFrom(left, right) if has_row([&**left, &**right]) => {
                let parts = self.pairs(left, right, 1)?;
                joined(parts, &BinaryOperator::Or, |(left, right)| Expr::IsDistinctFrom(left, right))
            }
            Expr::IsNotDistinctFrom(left, right) if has_row([&**left, &**right]) => {
                let parts = self.pairs(left, right, 1)?;
                joined(parts, &BinaryOperator::And, |(left, right)| Expr::IsNotDistinctFrom(left, right))
            }
            Expr::InList { expr, list, negated } if has_row(list.iter().chain([&**expr])) => {
                let equal = list.iter().map(|other| self.compared(expr, &BinaryOperator::Eq, other));
                let equal = equal.collect::<Result<Vec<_>, _>>()?;
                negated_if(*negated, joined(equal, &BinaryOperator::Or, |equal| equal))
            }
            Expr::Between { expr, negated, low, high } if has_row([&**expr, &**low, &**high]) => {
                let above = self.compared(expr, &BinaryOperator::GtEq, low)?;
                let below = self.compared(expr, &BinaryOperator::LtEq, high)?;
                negated_if(*negated, both(above, &BinaryOperator::And, below))
            }
            // Either may be false of a row in which some are null.
            Expr::IsNull(inner) => match values(inner) {
                Some(row) => joined(row, &BinaryOperator::And, |value| Expr::IsNull(Box::new(value.clone()))),
                None => return Ok(None),
            },
            Expr::IsNotNull(inner) => match values(inner) {
                Some(row) => joined(row, &BinaryOperator::And, |value| Expr::IsNotNull(Box::new(value.clone()))),
                None => return Ok(None),
            },
            Expr::Case { operand: Some(operand), .. } if values(operand).is_some() => {
                let message = "is what CASE looks for; write CASE WHEN (a, b) = (c, d) THEN ..";
                return Err(refused(operand, message.to_owned()));
            }
            _ => return Ok(None),
        }))
    }

    /// Two rows compared.
    fn compared(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Expr, Objection> {
        // What decides before the last value does, for those that are ordered.
        let strict = match op {
            BinaryOperator::Lt | BinaryOperator::LtEq => Some(BinaryOperator::Lt),
            BinaryOperator::Gt | BinaryOperator::GtEq => Some(BinaryOperator::Gt),
            _ => None,
        };
        let pairs = self.pairs(left, right, if strict.is_some() { 2 } else { 1 })?;
        let compare = |op: &BinaryOperator, (left, right)| Expr::BinaryOp { left, op: op.clone(), right };
        let Some(strict) = strict else {
            let between = if *op == BinaryOperator::Eq { BinaryOperator::And } else { BinaryOperator::Or };
            return Ok(joined(pairs, &between, |pair| compare(op, pair)));
        };
        if pairs.len() > ORDERED_MAX {
            let message = format!("has more than {ORDERED_MAX} values; so many are compared by = and <> alone");
            return Err(refused(left, message));
        }
        let mut pairs = pairs.into_iter().rev();
        let last = pairs.next().expect("a row has a value");
        Ok(pairs.fold(compare(op, last), |below, pair| {
            let tied = both(compare(&BinaryOperator::Eq, pair.clone()), &BinaryOperator::And, below);
            both(compare(&strict, pair), &BinaryOperator::Or, tied)
        }))
    }

    /// What stands at the same place in both. `times`: how often each is written.
    fn pairs(&mut self, left: &Expr, right: &Expr, times: usize) -> Result<Vec<Pair>, Objection> {
        let (Some(one), Some(other)) = (values(left), values(right)) else {
            return Err(refused(
                left,
                "is compared with what is none; write (a, b) = (c, d), a value for each".to_owned(),
            ));
        };
        if one.len() != other.len() {
            return Err(refused(
                left,
                format!("one of {} is compared with one of {}; write as many", one.len(), other.len()),
            ));
        }
        if let Some(row) = one.iter().chain(&other).find(|value| values(value).is_some()) {
            return Err(refused(row, "stands in another one; write their values in one row".to_owned()));
        }
        self.bytes += times * (left.to_string().len() + right.to_string().len());
        if self.bytes > TEXT_BYTES_MAX {
            let message = format!(
                "value by value these comparisons have more than {TEXT_BYTES_MAX} bytes; write a JOIN with (VALUES ..) AS v \
                 ON a = v.column1 AND b = v.column2"
            );
            return Err(refused(left, message));
        }
        let pair = |(left, right): (&Expr, &Expr)| (Box::new(left.clone()), Box::new(right.clone()));
        Ok(one.into_iter().zip(other).map(pair).collect())
    }
}

fn refused(row: &Expr, message: String) -> Objection {
    Objection::new(Place::At(row.span().start), "row of values", message)
}

type Pair = (Box<Expr>, Box<Expr>);

/// Whether what is sorted by is another thing alone than in a row: a number is that of a column then, and a name is what is
/// selected under it.
fn means_another(value: &Expr, selected: &[SelectItem]) -> bool {
    let Expr::Identifier(name) = value else { return matches!(value, Expr::Value(_)) };
    selected.iter().any(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } => alias.value == name.value && expr != value,
        _ => false,
    })
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

fn has_row<'a>(expressions: impl IntoIterator<Item = &'a Expr>) -> bool {
    expressions.into_iter().any(|expression| values(expression).is_some())
}

/// What stands in a row of values, `(a, b)` or `ROW(a, b)`.
fn values(expression: &Expr) -> Option<Vec<&Expr>> {
    match expression {
        Expr::Nested(inner) => values(inner),
        Expr::Tuple(values) if !values.is_empty() => Some(values.iter().collect()),
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            let FunctionArguments::List(list) = &function.args else { return None };
            let arguments = list.args.iter().map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
                _ => None,
            });
            let is_row = matches!(name.as_str(), "row" | "struct") && !list.args.is_empty();
            if is_row { arguments.collect() } else { None }
        }
        _ => None,
    }
}

fn negated_if(negated: bool, expression: Expr) -> Expr {
    if !negated {
        return expression;
    }
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expression))) }
}

/// With an operator between each two, no deeper than it must be.
fn joined<T>(parts: Vec<T>, op: &BinaryOperator, mut made: impl FnMut(T) -> Expr) -> Expr {
    let mut parts: Vec<Expr> = parts.into_iter().map(&mut made).collect();
    while parts.len() > 1 {
        let mut left = parts.into_iter();
        parts = Vec::new();
        while let Some(one) = left.next() {
            parts.push(match left.next() {
                Some(other) => both(one, op, other),
                None => one,
            });
        }
    }
    parts.pop().expect("there is one")
}

fn both(left: Expr, op: &BinaryOperator, right: Expr) -> Expr {
    let part = |side: Expr| match side {
        side @ Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. } => Expr::Nested(Box::new(side)),
        side => side,
    };
    Expr::BinaryOp { left: Box::new(part(left)), op: op.clone(), right: Box::new(part(right)) }
}
