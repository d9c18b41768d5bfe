//! `ORDER BY .. LIMIT`.
//!
//! A limit takes rows in the order of the `ORDER BY` beneath it, through projections and other limits; the rule `ties` has
//! seen to it that there is one, and that it leaves nothing open. Its last columns, by which ties are broken, are left out
//! here: rows that [`Top`] holds equal are sorted by themselves, which is the same.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::common::DFSchema;
use datafusion::logical_expr::logical_plan::{FetchType, SkipType};
use datafusion::logical_expr::{Limit, LogicalPlan, Sort, SortExpr};
use datafusion::physical_expr::PhysicalExpr;

use super::pending::Pending;
use super::{Lowered, Lowering, physical, projected, relation};
use crate::sql::refusal::{Objection, Place};
use crate::sql::relation::Operator;
use crate::sql::row::Codec;
use crate::sql::top::Top;

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
                projected(input, &projection.expr, &projection.schema)
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

/// An order, over the columns of what is sorted.
pub(super) fn ordering(
    order: &[SortExpr],
    input: &Lowered,
) -> Result<Vec<(Arc<dyn PhysicalExpr>, SortOptions)>, Objection> {
    let each = order.iter().map(|sort| {
        let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        Ok((physical(&sort.expr, &input.schema)?, options))
    });
    each.collect()
}
