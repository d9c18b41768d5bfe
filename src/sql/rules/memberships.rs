//! `x IN (SELECT ..)` as a part of a condition: what is not known stays so.
//!
//! `IN` that is a condition by itself is right as DataFusion has it, and so is `NOT IN` of a column in what is the same for
//! all rows. Elsewhere, under `OR`, `NOT` or in another expression, DataFusion looks whether the value is found, and takes
//! what is not known (the value is null, or a null is among those looked in) for false. That makes no difference where more
//! found rows only ever make the whole condition more true; elsewhere it would let rows in that SQL leaves out, so there it
//! is said when it is not known.
//!
//! What is selected is no condition, of which DataFusion would make a join. There it is asked how many such rows there are,
//! which is a value, and so is a join.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::utils::disjunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, Join, LogicalPlan, LogicalPlanBuilder, Operator, lit,
};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite_expressions;
use crate::sql::refusal::{Objection, Place, looked_for};
use crate::sql::subquery::has_subquery;

/// Why a join that knows of nulls is refused if it has anything but a key.
pub(in crate::sql) const WITHOUT_KEY: &str = "what it looks in depends on the row, or what it looks for does not, and a null would \
                                              have to count for some rows alone; write NOT EXISTS (SELECT .. WHERE ..)";

/// Whether a join knows of nulls and cannot say so by its key.
pub(in crate::sql) fn is_without_key(join: &Join) -> bool {
    join.null_aware && (join.on.len() != 1 || join.filter.is_some())
}

/// So many joins may come of what is selected: each is an operator for every row.
const COUNTS_MAX: usize = 16;

/// Says when it is not known whether a value is among others.
#[derive(Debug)]
pub(super) struct Rule;

/// Where in a condition something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It is a condition by itself.
    Alone,
    /// The more it is true, the more the whole is.
    Rising,
    /// The less it is true, the more the whole is.
    Falling,
    /// Anywhere else.
    Within,
}

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "memberships"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let counts = Cell::new(0);
        let rewrite = |node| match node {
            LogicalPlan::Filter(Filter { predicate, input, .. }) => {
                let predicate = rewritten(predicate, Stand::Alone, input.schema())?;
                Ok(predicate
                    .update_data(|predicate| (predicate, input))
                    .map_data(|(predicate, input)| Ok(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))?)
            }
            LogicalPlan::Projection(projection) if projection.expr.iter().any(has_subquery) => {
                let schema = Arc::clone(projection.input.schema());
                let plan = LogicalPlan::Projection(projection);
                rewrite_expressions(plan, |expression| selected(expression, &schema, &counts))
            }
            node => Ok(Transformed::no(node)),
        };
        plan.transform_up_with_subqueries(rewrite).data()
    }
}

impl Stand {
    /// Where one side of an `OR` stands.
    fn beside(self) -> Self {
        if self == Self::Alone { Self::Rising } else { self }
    }

    fn denied(self) -> Self {
        match self {
            Self::Alone | Self::Rising => Self::Falling,
            Self::Falling => Self::Rising,
            Self::Within => Self::Within,
        }
    }
}

fn rewritten(expression: Expr, stand: Stand, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expression {
        Expr::InSubquery(found) => match (stand, found.negated) {
            (Stand::Alone, negated) if !negated || has_key(&found) => Ok(Transformed::no(Expr::InSubquery(found))),
            (Stand::Rising, false) | (Stand::Falling, true) => {
                let negated = found.negated;
                membership(found, schema).map(|found| Transformed::yes(if negated { !found } else { found }))
            }
            _ => with_unknown(found, schema).map(Transformed::yes),
        },
        Expr::Not(denied) if stand == Stand::Alone && matches!(&*denied, Expr::InSubquery(found) if has_key(found)) => {
            Ok(Transformed::no(Expr::Not(denied)))
        }
        Expr::Not(denied) => {
            let denied = rewritten(*denied, stand.denied(), schema)?;
            Ok(denied.update_data(|denied| Expr::Not(Box::new(denied))))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let stand = if op == Operator::And { stand } else { stand.beside() };
            let (left, right) = (rewritten(*left, stand, schema)?, rewritten(*right, stand, schema)?);
            let transformed = left.transformed || right.transformed;
            let whole = BinaryExpr::new(Box::new(left.data), op, Box::new(right.data));
            Ok(Transformed::new_transformed(Expr::BinaryExpr(whole), transformed))
        }
        expression => expression.map_children(|inner| rewritten(inner, Stand::Within, schema)),
    }
}

/// Whether `NOT IN` becomes a join whose key knows of nulls: what it looks in is the same for all rows, and what it looks for
/// is not the same for all of them. Of others DataFusion makes a join that knows nothing of nulls.
fn has_key(found: &InSubquery) -> bool {
    found.subquery.outer_ref_columns.is_empty() && found.expr.any_column_refs()
}

/// What is selected, with subqueries that are values alone.
fn selected(expression: Expr, schema: &DFSchema, counts: &Cell<usize>) -> Result<Transformed<Expr>> {
    let known = rewritten(expression, Stand::Within, schema)?;
    known.transform_data(|expression| {
        expression.transform_up(|inner| match inner {
            Expr::InSubquery(found) => {
                let negated = found.negated;
                let is_found = match exists_equal(found, schema)? {
                    Expr::Exists(exists) => counted(exists, counts)?,
                    other => Transformed::no(other),
                };
                Ok(if negated { is_found.update_data(|is_found| !is_found) } else { is_found })
            }
            Expr::Exists(exists) => counted(exists, counts),
            inner => Ok(Transformed::no(inner)),
        })
    })
}

/// Whether there are rows, by their number. `counts`: how often that was asked.
fn counted(Exists { subquery, negated }: Exists, counts: &Cell<usize>) -> Result<Transformed<Expr>> {
    counts.set(counts.get() + 1);
    if counts.get() > COUNTS_MAX {
        let message = format!(
            "is selected, where it takes one to three joins, of which {COUNTS_MAX} are allowed in all; write conditions in \
             WHERE, or views of some of them"
        );
        let place = Place::of_plan(&subquery.subquery);
        return Err(Objection::new(place, "IN, EXISTS (SELECT ..)", message).into_error());
    }
    let is_grouped = |node: &LogicalPlan| match node {
        LogicalPlan::Aggregate(aggregate) => !aggregate.input.all_out_ref_exprs().is_empty(),
        _ => false,
    };
    if subquery.subquery.exists(|node| Ok(is_grouped(node)))? {
        // What would be counted are groups, by other keys than their own.
        return Ok(Transformed::no(Expr::Exists(Exists { subquery, negated })));
    }
    let rows = LogicalPlanBuilder::from(Arc::clone(&subquery.subquery));
    let count = rows.aggregate(Vec::<Expr>::new(), vec![count_all()])?.build()?;
    let count = Expr::ScalarSubquery(Subquery { subquery: Arc::new(count), ..subquery });
    let is_there = Expr::IsTrue(Box::new(count.gt(lit(0_i64))));
    Ok(Transformed::yes(if negated { !is_there } else { is_there }))
}

/// Whether the value is found; false where that is not known.
fn membership(found: InSubquery, schema: &DFSchema) -> Result<Expr> {
    if has_key(&found) {
        return Ok(Expr::InSubquery(InSubquery { negated: false, ..found }));
    }
    exists_equal(found, schema)
}

/// Whether there is a row with the value; what it was where that cannot be asked so.
fn exists_equal(found: InSubquery, schema: &DFSchema) -> Result<Expr> {
    if let Some(objection) = looked_for(&found) {
        // It would be of another row there.
        return Err(objection.into_error());
    }
    let InSubquery { expr, subquery: Subquery { subquery: plan, mut outer_ref_columns, spans }, negated: _ } = found;
    let column = match &plan.schema().columns()[..] {
        [column] if !expr.contains_outer() => Expr::Column(column.clone()),
        _ => {
            let subquery = Subquery { subquery: plan, outer_ref_columns, spans };
            return Ok(Expr::InSubquery(InSubquery::new(expr, subquery, false)));
        }
    };
    // Denied it becomes a condition by itself, which must stay without knowing of nulls.
    let value = expr.transform_up(|inner| {
        let Expr::Column(column) = inner else { return Ok(Transformed::no(inner)) };
        let (_, field) = schema.qualified_field_from_column(&column)?;
        let outer = Expr::OuterReferenceColumn(Arc::clone(field), column);
        outer_ref_columns.push(outer.clone());
        Ok(Transformed::yes(outer))
    })?;
    let plan = LogicalPlanBuilder::from(plan).filter(column.eq(value.data))?.build()?;
    Ok(Expr::Exists(Exists::new(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans }, false)))
}

/// The same, but null where that is not known.
fn with_unknown(found: InSubquery, schema: &DFSchema) -> Result<Expr> {
    let exists = |plan: Arc<LogicalPlan>| {
        let subquery = Subquery { subquery: plan, ..found.subquery.clone() };
        Expr::Exists(Exists::new(subquery, false))
    };
    let (plan, mut unknown) = (&found.subquery.subquery, Vec::new());
    for (column, field) in plan.schema().columns().into_iter().zip(plan.schema().fields()) {
        if field.is_nullable() {
            let nulls = LogicalPlanBuilder::from(Arc::clone(plan)).filter(Expr::Column(column).is_null())?;
            unknown.push(exists(Arc::new(nulls.build()?)));
        }
    }
    if found.expr.nullable(schema)? {
        unknown.push(found.expr.clone().is_null().and(exists(Arc::clone(plan))));
    }
    let negated = found.negated;
    let is_found = membership(found, schema)?;
    let whole = match disjunction(unknown) {
        Some(unknown) => is_found.or(unknown.and(Expr::Literal(ScalarValue::Boolean(None), None))),
        None => is_found,
    };
    Ok(if negated { !whole } else { whole })
}
