//! `ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..)` under a filter that bounds it: the first rows of each group.
//!
//! Between the two may stand a projection, which leaves out what only the order needs. Conditions on the number that are
//! a range make the bound; all others are looked at afterwards, as any filter. The number itself is kept only where it is
//! asked for: without it a row stays the same when its place changes.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, ScalarValue};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator as Compare, Projection, Window};

use super::pending::Pending;
use super::top::ordering;
use super::{Lowered, Lowering, arrow, filtered, physical_all, projected, relation, without_ties};
use crate::sql::refusal::{Objection, Place};
use crate::sql::relation::Operator;
use crate::sql::row::Codec;
use crate::sql::top::Top;

/// What is refused of windows, and what to write instead.
pub(in crate::sql) const ADVICE: &str = "only ROW_NUMBER() with a bound is maintained; write SELECT .. FROM (SELECT .., \
    ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) AS n FROM ..) WHERE n <= 10";

/// Numbered rows under a filter.
pub(super) struct Numbered<'a> {
    window: &'a Window,
    /// Over the columns that are filtered.
    predicate: &'a Expr,
    /// What makes those of the window's, if anything does.
    between: Option<&'a Projection>,
}

/// The numbered rows that a plan is the filter of; none where it is something else.
pub(super) fn under(plan: &LogicalPlan) -> Option<Numbered<'_>> {
    let LogicalPlan::Filter(filter) = plan else { return None };
    let (input, between) = match &*filter.input {
        LogicalPlan::Projection(projection) => (&*projection.input, Some(projection)),
        input => (input, None),
    };
    let LogicalPlan::Window(window) = input else { return None };
    Some(Numbered { window, predicate: &filter.predicate, between })
}

impl Numbered<'_> {
    /// All columns that are filtered.
    pub(super) fn columns(&self) -> Vec<Expr> {
        let schema = self.between.map_or(&self.window.schema, |between| &between.schema);
        schema.columns().into_iter().map(Expr::Column).collect()
    }

    /// An expression over the columns that are filtered, over those of the window.
    fn over_window(&self, expression: Expr) -> Expr {
        let Some(between) = self.between else { return expression };
        let made = expression.transform_down(|inner| match &inner {
            Expr::Column(column) => {
                let place = between.schema.index_of_column(column)?;
                let made = between.expr[place].clone().unalias();
                Ok(Transformed::new(made, true, TreeNodeRecursion::Jump))
            }
            _ => Ok(Transformed::no(inner)),
        });
        made.data().expect("a filter is over the columns beneath it")
    }
}

impl Lowering<'_> {
    /// These columns of the rows that pass, named by `schema`.
    pub(super) fn lower_numbered(
        &mut self,
        numbered: &Numbered<'_>,
        columns: Vec<Expr>,
        schema: &DFSchemaRef,
    ) -> Result<Lowered, Objection> {
        let columns: Vec<Expr> = columns.into_iter().map(|column| numbered.over_window(column)).collect();
        let predicate = numbered.over_window(numbered.predicate.clone());
        let number = number_of(numbered.window);
        let with_number = columns.iter().any(|expression| expression.column_refs().contains(&number));
        projected(self.lower_first_of_each(numbered.window, &predicate, with_number)?, &columns, schema)
    }

    fn lower_first_of_each(
        &mut self,
        window: &Window,
        predicate: &Expr,
        with_number: bool,
    ) -> Result<Lowered, Objection> {
        let [expression] = &window.window_expr[..] else { return Err(unbounded(window)) };
        let Expr::WindowFunction(function) = expression.clone().unalias_nested().data else {
            return Err(unbounded(window));
        };
        let WindowFunction { fun, params } = *function;
        if fun.name() != "row_number" || params.filter.is_some() {
            return Err(unbounded(window));
        }
        let number = number_of(window);
        let mut range = Range { first: 1, last: None };
        let others = split_conjunction(predicate).into_iter().filter(|conjunct| !range.narrow(conjunct, &number));
        let others: Vec<Expr> = others.cloned().collect();
        let Some(last) = range.last else { return Err(unbounded(window)) };
        let limit = (last + 1).saturating_sub(range.first);
        let with_number = with_number || others.iter().any(|other| other.column_refs().contains(&number));

        let input = self.lower(&window.input)?;
        let partition = physical_all(&params.partition_by, &input.schema)?;
        let order = ordering(without_ties(&params.order_by, &input.schema), &input)?;
        let at_most_one = input.at_most_one || (partition.is_empty() && limit <= 1);
        let schema = if with_number { Arc::clone(&window.schema) } else { Arc::clone(&input.schema) };
        let rows = input.relation();
        let codec = Codec::new(Arc::clone(&rows.schema));
        let top = Arc::new(Top::new(codec, partition, order, range.first - 1, Some(limit), with_number));
        let relation = relation(&top.description(), arrow(&schema), vec![rows], |mut inputs| Operator::Top {
            input: inputs.remove(0),
            top,
        });
        let numbered = Lowered { pending: Pending::of(relation), schema, at_most_one };
        match conjunction(others) {
            Some(others) => filtered(numbered, &others),
            None => Ok(numbered),
        }
    }
}

/// The column in which a window with one function puts the number.
fn number_of(window: &Window) -> Column {
    window.schema.columns().pop().expect("a window adds a column")
}

/// A window without anything that bounds it.
pub(super) fn unbounded(window: &Window) -> Objection {
    let function = window.window_expr.first().and_then(|expression| match expression.clone().unalias_nested().data {
        Expr::WindowFunction(function) => Some(function.fun.name().to_owned()),
        _ => None,
    });
    let name = function.unwrap_or_else(|| "OVER".to_owned());
    Objection::new(Place::Word(name.clone()), format!("window function {name}()"), ADVICE)
}

/// The numbers that can pass a filter.
struct Range {
    first: usize,
    last: Option<usize>,
}

impl Range {
    /// Narrows it by a condition; whether the condition says nothing more than that.
    fn narrow(&mut self, conjunct: &Expr, number: &Column) -> bool {
        let (first, last, is_all) = match range(conjunct, number) {
            Some(found) => found,
            None => return false,
        };
        self.first = self.first.max(first);
        self.last = self.last.into_iter().chain(last).min();
        is_all
    }
}

/// The least and greatest number of which a condition can be true, and whether it is true of all between.
fn range(condition: &Expr, number: &Column) -> Option<(usize, Option<usize>, bool)> {
    let is_number = |expression: &Expr| matches!(expression, Expr::Column(column) if column == number);
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Compare::Or, right }) => {
            let (one, other) = (range(left, number)?, range(right, number)?);
            let last = one.1.zip(other.1).map(|(one, other)| one.max(other));
            Some((one.0.min(other.0), last, false))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (compare, value) = if is_number(left) {
                (*op, value(right)?)
            } else if is_number(right) {
                (op.swap()?, value(left)?)
            } else {
                return None;
            };
            Some(match compare {
                Compare::Eq => (value, Some(value), true),
                Compare::LtEq => (1, Some(value), true),
                // There is no number before the first.
                Compare::Lt => (1, Some(value.saturating_sub(1)), true),
                Compare::GtEq => (value, None, true),
                Compare::Gt => (value.saturating_add(1), None, true),
                _ => return None,
            })
        }
        Expr::Between(between) if is_number(&between.expr) && !between.negated => {
            Some((value(&between.low)?, Some(value(&between.high)?), true))
        }
        _ => None,
    }
}

fn value(expression: &Expr) -> Option<usize> {
    let Expr::Literal(value, _) = expression else { return None };
    match value.cast_to(&DataType::UInt64).ok()? {
        ScalarValue::UInt64(Some(value)) => usize::try_from(value).ok(),
        _ => None,
    }
}
