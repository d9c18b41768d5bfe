//! `ORDER BY .. LIMIT`, and `row_number() OVER (..)` with a bound.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::common::{DFSchemaRef, ScalarValue};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::logical_plan::{FetchType, SkipType};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Limit, LogicalPlan, Operator as Compare, Sort, SortExpr, Window};
use datafusion::physical_expr::PhysicalExpr;

use super::pending::Pending;
use super::{Lowered, Lowering, arrow, filtered, physical, physical_all, relation};
use crate::sql::refusal::{Objection, Place};
use crate::sql::relation::Operator;
use crate::sql::row::Codec;
use crate::sql::top::Top;

/// What is refused of windows, and what to write instead.
const ADVICE: &str = "only row_number() with a bound is maintained; write SELECT .. FROM (SELECT .., row_number() OVER \
                      (PARTITION BY .. ORDER BY ..) AS n FROM ..) WHERE n <= 10";

impl Lowering<'_> {
    pub(super) fn lower_limit(&mut self, limit: &Limit) -> Result<Lowered, Objection> {
        let no_number = || Objection::new(Place::Word("LIMIT".to_owned()), "LIMIT", "it must be a number");
        let SkipType::Literal(skip) = limit.get_skip_type()? else { return Err(no_number()) };
        let FetchType::Literal(fetch) = limit.get_fetch_type()? else { return Err(no_number()) };
        match &*limit.input {
            LogicalPlan::Sort(sort) => {
                let within = sort.fetch.map(|whole| whole.saturating_sub(skip));
                let fetch = fetch.into_iter().chain(within).min();
                self.lower_sorted(sort, skip, fetch)
            }
            input => {
                let input = self.lower(input)?;
                Ok(first(input, Vec::new(), skip, fetch))
            }
        }
    }

    pub(super) fn lower_sorted(
        &mut self,
        sort: &Sort,
        skip: usize,
        fetch: Option<usize>,
    ) -> Result<Lowered, Objection> {
        let input = self.lower(&sort.input)?;
        let order = ordering(&sort.expr, &input)?;
        Ok(first(input, order, skip, fetch))
    }

    /// A window under a filter: rows with a number, where the filter bounds it.
    pub(super) fn lower_numbered(
        &mut self,
        window: &Window,
        predicate: &Expr,
        schema: &DFSchemaRef,
    ) -> Result<Lowered, Objection> {
        let [expression] = &window.window_expr[..] else { return Err(unbounded(window)) };
        let Expr::WindowFunction(function) = expression.clone().unalias_nested().data else {
            return Err(unbounded(window));
        };
        let WindowFunction { fun, params } = *function;
        if fun.name() != "row_number" || params.filter.is_some() {
            let name = format!("window function {}()", fun.name());
            return Err(Objection::new(Place::Word(fun.name().to_owned()), name, ADVICE));
        }
        let number = schema.columns().pop().expect("a window adds a column");
        let bound = split_conjunction(predicate).into_iter().filter_map(|conjunct| bound(conjunct, &number)).min();
        let Some(bound) = bound else { return Err(unbounded(window)) };
        let input = self.lower(&window.input)?;
        let partition = physical_all(&params.partition_by, &input.schema)?;
        let order = ordering(&params.order_by, &input)?;
        let at_most_one = input.at_most_one;
        let rows = input.relation();
        let codec = Codec::new(Arc::clone(&rows.schema));
        let top = Arc::new(Top::new(codec, partition, order, 0, Some(bound), true));
        let relation = relation(&top.description(), arrow(schema), vec![rows], |mut inputs| Operator::Top {
            input: inputs.remove(0),
            top,
        });
        let numbered = Lowered { pending: Pending::of(relation), schema: Arc::clone(schema), at_most_one };
        filtered(numbered, predicate)
    }
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

/// How many rows of a group can pass a condition on their number.
fn bound(conjunct: &Expr, number: &datafusion::common::Column) -> Option<usize> {
    let is_number = |expression: &Expr| matches!(expression, Expr::Column(column) if column == number);
    match conjunct {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (compare, value) = if is_number(left) {
                (*op, value(right)?)
            } else if is_number(right) {
                (op.swap()?, value(left)?)
            } else {
                return None;
            };
            match compare {
                Compare::LtEq | Compare::Eq => Some(value),
                Compare::Lt => Some(value.saturating_sub(1)),
                _ => None,
            }
        }
        Expr::Between(between) if is_number(&between.expr) && !between.negated => value(&between.high),
        _ => None,
    }
}

fn value(expression: &Expr) -> Option<usize> {
    let Expr::Literal(value, _) = expression else { return None };
    match value.cast_to(&datafusion::arrow::datatypes::DataType::UInt64).ok()? {
        ScalarValue::UInt64(Some(value)) => usize::try_from(value).ok(),
        _ => None,
    }
}
