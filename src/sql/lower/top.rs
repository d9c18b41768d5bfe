//! `ORDER BY .. LIMIT`, and `ROW_NUMBER() OVER (..)` with a bound.
//!
//! A limit takes rows in the order of the `ORDER BY` beneath it, through projections and other limits; the rule `ties` has
//! seen to it that there is one, and that it leaves nothing open. Its last columns, by which ties are broken, are left out
//! here: rows that [`Top`] holds equal are sorted by themselves, which is the same.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::logical_plan::{FetchType, SkipType};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Limit, LogicalPlan, Operator as Compare, Sort, SortExpr, Window};
use datafusion::physical_expr::PhysicalExpr;

use super::pending::Pending;
use super::{Lowered, Lowering, arrow, filtered, physical, physical_all, projected, relation};
use crate::sql::refusal::{Objection, Place};
use crate::sql::relation::Operator;
use crate::sql::row::Codec;
use crate::sql::top::Top;

/// What is refused of windows, and what to write instead.
pub(in crate::sql) const ADVICE: &str = "only ROW_NUMBER() with a bound is maintained; write SELECT .. FROM (SELECT .., \
    ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) AS n FROM ..) WHERE n <= 10";

impl Lowering<'_> {
    pub(super) fn lower_limit(&mut self, limit: &Limit) -> Result<Lowered, Objection> {
        let (skip, fetch) = bounds(limit)?;
        self.lower_first(&limit.input, skip, fetch)
    }

    /// The first rows of a plan, in its order.
    fn lower_first(&mut self, plan: &LogicalPlan, skip: usize, fetch: Option<usize>) -> Result<Lowered, Objection> {
        let within = |all: Option<usize>| all.map(|all| all.saturating_sub(skip)).into_iter().chain(fetch).min();
        match plan {
            LogicalPlan::Projection(projection) => {
                let input = self.lower_first(&projection.input, skip, fetch)?;
                projected(input, projection)
            }
            LogicalPlan::Limit(inner) => {
                let (inner_skip, inner_fetch) = bounds(inner)?;
                self.lower_first(&inner.input, inner_skip.saturating_add(skip), within(inner_fetch))
            }
            LogicalPlan::Sort(sort) => self.lower_sorted(sort, skip, within(sort.fetch)),
            plan => Ok(first(self.lower(plan)?, Vec::new(), skip, fetch)),
        }
    }

    pub(super) fn lower_sorted(
        &mut self,
        sort: &Sort,
        skip: usize,
        fetch: Option<usize>,
    ) -> Result<Lowered, Objection> {
        let input = self.lower(&sort.input)?;
        let order = ordering(without_ties(&sort.expr, &input.schema), &input)?;
        Ok(first(input, order, skip, fetch))
    }

    /// A window under a filter that bounds the number of rows. `with_number`: whether it is asked for above the filter;
    /// if not, it is not there, so that a row is the same whichever number it has.
    pub(super) fn lower_numbered(
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
pub(super) fn number_of(window: &Window) -> Column {
    window.schema.columns().pop().expect("a window adds a column")
}

fn bounds(limit: &Limit) -> Result<(usize, Option<usize>), Objection> {
    let no_number = || Objection::new(Place::Word("LIMIT".to_owned()), "LIMIT", "must be a number");
    let SkipType::Literal(skip) = limit.get_skip_type()? else { return Err(no_number()) };
    let FetchType::Literal(fetch) = limit.get_fetch_type()? else { return Err(no_number()) };
    Ok((skip, fetch))
}

/// The first rows of all.
fn first(
    input: Lowered,
    order: Vec<(Arc<dyn PhysicalExpr>, SortOptions)>,
    skip: usize,
    fetch: Option<usize>,
) -> Lowered {
    if skip == 0 && fetch.is_none() {
        return input;
    }
    let (schema, at_most_one) = (Arc::clone(&input.schema), input.at_most_one || fetch.is_some_and(|fetch| fetch <= 1));
    let rows = input.relation();
    let columns = Arc::clone(&rows.schema);
    let top = Arc::new(Top::new(Codec::new(Arc::clone(&columns)), Vec::new(), order, skip, fetch, false));
    let relation =
        relation(&top.description(), columns, vec![rows], |mut inputs| Operator::Top { input: inputs.remove(0), top });
    Lowered { pending: Pending::of(relation), schema, at_most_one }
}

/// The order without its last columns that the order of whole rows repeats: plain, ascending with nulls first, as they
/// stand in the rows, where all others are in the order before them.
pub(in crate::sql) fn without_ties<'a>(order: &'a [SortExpr], schema: &DFSchema) -> &'a [SortExpr] {
    let place = |sort: &SortExpr| schema.index_of_column(sort.expr.try_as_col()?).ok();
    let is_plain = |sort: &&SortExpr| sort.asc && sort.nulls_first && place(sort).is_some();
    let mut kept = order.len();
    let mut after = usize::MAX;
    for sort in order.iter().rev().take_while(is_plain) {
        match place(sort) {
            Some(place) if place < after => (kept, after) = (kept - 1, place),
            _ => break,
        }
    }
    let mut given: Vec<usize> = order.iter().filter_map(place).collect();
    given.sort_unstable();
    given.dedup();
    if given.len() == schema.fields().len() { &order[..kept] } else { order }
}

fn ordering(order: &[SortExpr], input: &Lowered) -> Result<Vec<(Arc<dyn PhysicalExpr>, SortOptions)>, Objection> {
    let each = order.iter().map(|sort| {
        let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        Ok((physical(&sort.expr, &input.schema)?, options))
    });
    each.collect()
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
