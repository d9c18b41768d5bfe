//! Subqueries over an aggregate without `GROUP BY`, of rows that depend on the row around it: they have a row even where
//! nothing is aggregated.
//!
//! DataFusion groups by what such rows are found by, and then has no row where there is no group. It makes up for that where
//! the subquery is a value and has no `HAVING`; so all others become such ones here: `EXISTS` is true or is what `HAVING`
//! says, `x IN`, `ANY` and `ALL` compare, and `HAVING` decides whether a value is null. It makes up for what is computed of aggregates, so
//! what is constant is made to look so. What has another form is refused, and so are a limit and a window that would count
//! rows of all groups at once.
//!
//! A value that does not depend on the row may have no row, and is null then, whatever its column is.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::logical_plan::{FetchType, SkipType, Subquery};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, JoinType, Limit, LogicalPlan, LogicalPlanBuilder, Projection, binary_expr, lit, when,
};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite_expressions;
use crate::sql::functions::opaque::{OPAQUE, opaque};
use crate::sql::refusal::{Objection, Place};

/// The column that says whether the row is there.
const KEPT: &str = "kept";

/// Makes them values without `HAVING`.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "one_group"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| {
            // The plans of all subqueries come in such a node; of those of LATERAL it is one side of a join.
            if let LogicalPlan::Join(join) = &node {
                check_lateral(&join.right)?;
            }
            if let LogicalPlan::Subquery(subquery) = &node
                && OneRow::of(subquery)?.is_some()
            {
                let plan = computed_of_aggregates(&subquery.subquery)?;
                let subquery = Subquery { subquery: Arc::new(plan), ..subquery.clone() };
                return Ok(Transformed::yes(LogicalPlan::Subquery(subquery)));
            }
            rewrite_expressions(node, |expression| expression.transform_up(rewritten))
        })?;
        Ok(plan.data)
    }
}

/// The one row of an aggregate.
struct OneRow {
    /// It, whatever it is like.
    plan: LogicalPlan,
    /// What must be true for it to be there.
    conditions: Vec<Condition>,
}

enum Condition {
    /// Of what these rows are: a plan of the one column that says so.
    Computed(LogicalPlan),
    Never,
}

impl OneRow {
    /// The plan, if it is one of an aggregate without `GROUP BY` over rows that depend on the row around.
    fn of(subquery: &Subquery) -> Result<Option<Self>> {
        let is_correlated = !subquery.outer_ref_columns.is_empty();
        if is_correlated { Self::under(&subquery.subquery) } else { Ok(None) }
    }

    fn under(plan: &LogicalPlan) -> Result<Option<Self>> {
        let on_top = |row: Self| -> Result<Self> {
            Ok(Self { plan: plan.with_new_exprs(plan.expressions(), vec![row.plan])?, ..row })
        };
        match plan {
            LogicalPlan::Aggregate(Aggregate { input, group_expr, .. }) if group_expr.is_empty() => {
                if input.all_out_ref_exprs().is_empty() {
                    return Ok(None);
                }
                check_no_other(input)?;
                Ok(Some(Self { plan: plan.clone(), conditions: Vec::new() }))
            }
            LogicalPlan::Filter(filter) => {
                let Some(mut row) = Self::under(&filter.input)? else { return Ok(None) };
                let condition = vec![filter.predicate.clone().alias(KEPT)];
                let computed = Projection::try_new(condition, Arc::new(row.plan.clone()))?;
                let computed = computed_of_aggregates(&LogicalPlan::Projection(computed))?;
                row.conditions.push(Condition::Computed(computed));
                Ok(Some(row))
            }
            LogicalPlan::Projection(projection) => Self::under(&projection.input)?.map(on_top).transpose(),
            LogicalPlan::SubqueryAlias(alias) => Self::under(&alias.input)?.map(on_top).transpose(),
            LogicalPlan::Sort(sort) => Self::under(&sort.input),
            LogicalPlan::Distinct(Distinct::All(input)) => Self::under(input),
            LogicalPlan::Limit(limit) => {
                let Some(mut row) = Self::under(&limit.input)? else { return Ok(None) };
                match passes_first(limit)? {
                    Some(true) => {}
                    Some(false) => row.conditions.push(Condition::Never),
                    None => return Ok(None),
                }
                Ok(Some(row))
            }
            _ => Ok(None),
        }
    }

    /// Whether it is there; none if it always is.
    fn is_there(&self, around: &Subquery) -> Option<Expr> {
        let each = self.conditions.iter().map(|condition| match condition {
            Condition::Computed(plan) => Expr::IsTrue(Box::new(value(plan.clone(), around))),
            Condition::Never => lit(false),
        });
        conjunction(each)
    }
}

/// Whether the first row passes a limit; none if that cannot be told.
fn passes_first(limit: &Limit) -> Result<Option<bool>> {
    Ok(match (limit.get_skip_type()?, limit.get_fetch_type()?) {
        (SkipType::Literal(skip), FetchType::Literal(fetch)) => Some(skip == 0 && fetch != Some(0)),
        _ => None,
    })
}

fn value(plan: LogicalPlan, around: &Subquery) -> Expr {
    let outer_ref_columns = around.outer_ref_columns.clone();
    Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: around.spans.clone() })
}

fn rewritten(expression: Expr) -> Result<Transformed<Expr>> {
    let subquery = match &expression {
        Expr::Exists(Exists { subquery, .. }) | Expr::ScalarSubquery(subquery) => subquery,
        Expr::InSubquery(InSubquery { subquery, .. }) | Expr::SetComparison(SetComparison { subquery, .. }) => subquery,
        _ => return Ok(Transformed::no(expression)),
    };
    let Some(row) = OneRow::of(subquery)? else { return many(expression).and_then(null_of_nothing) };
    let is_there = row.is_there(subquery);
    let negated_if = |negated: bool, expr: Expr| if negated { !expr } else { expr };
    Ok(Transformed::yes(match (expression, is_there) {
        (Expr::Exists(exists), is_there) => negated_if(exists.negated, is_there.unwrap_or_else(|| lit(true))),
        (Expr::InSubquery(InSubquery { expr, subquery, negated }), is_there) => {
            let equals = (*expr).eq(value(row.plan, &subquery));
            let found = match is_there {
                Some(is_there) => when(is_there, equals).otherwise(lit(false))?,
                None => equals,
            };
            negated_if(negated, found)
        }
        (Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }), is_there) => {
            let compared = binary_expr(*expr, op, value(row.plan, &subquery));
            match is_there {
                Some(is_there) => when(is_there, compared).otherwise(lit(quantifier == SetQuantifier::All))?,
                None => compared,
            }
        }
        (Expr::ScalarSubquery(subquery), Some(is_there)) => {
            let nothing = ScalarValue::try_from(row.plan.schema().field(0).data_type())?;
            when(is_there, value(row.plan, &subquery)).otherwise(Expr::Literal(nothing, None))?
        }
        // Without an order, a limit or DISTINCT, which say nothing of one row.
        (Expr::ScalarSubquery(subquery), None) => value(row.plan, &subquery),
        (expression, _) => return Ok(Transformed::no(expression)),
    }))
}

/// The plan with what is selected of one row made of its aggregates, the constant too: of a constant, and of what is found
/// to be one, DataFusion does not know that it is there of nothing.
fn computed_of_aggregates(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = plan else {
        return match plan {
            LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Distinct(_) => {
                let input = computed_of_aggregates(plan.inputs()[0])?;
                plan.with_new_exprs(plan.expressions(), vec![input])
            }
            plan => Ok(plan.clone()),
        };
    };
    let input = computed_of_aggregates(&projection.input)?;
    let Some(aggregate) = input.schema().columns().into_iter().next() else { return Ok(plan.clone()) };
    let expressions = projection.expr.iter().map(|expression| {
        let (relation, name) = expression.qualified_name();
        match expression.clone().unalias() {
            Expr::Column(_) => expression.clone(),
            Expr::ScalarFunction(function) if function.name() == OPAQUE => expression.clone(),
            computed => opaque(computed, Expr::Column(aggregate.clone())).alias_qualified(relation, name),
        }
    });
    Ok(LogicalPlan::Projection(Projection::try_new(expressions.collect(), Arc::new(input))?))
}

/// A value that is the same for all rows and may have no row: then it is null, also where its column never is.
fn null_of_nothing(expression: Transformed<Expr>) -> Result<Transformed<Expr>> {
    let Expr::ScalarSubquery(subquery) = &expression.data else { return Ok(expression) };
    let plan = &subquery.subquery;
    let is_nullable = plan.schema().fields().iter().all(|field| field.is_nullable());
    if !subquery.outer_ref_columns.is_empty() || is_nullable || has_always_a_row(plan) {
        return Ok(expression);
    }
    let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let one = LogicalPlanBuilder::empty(true);
    let beside = one.join_on(plan.as_ref().clone(), JoinType::Left, [lit(true)])?.project(columns)?;
    let subquery = Subquery { subquery: Arc::new(beside.build()?), ..subquery.clone() };
    Ok(Transformed::yes(Expr::ScalarSubquery(subquery)))
}

/// Whether it has a row, whatever is in the tables.
fn has_always_a_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(relation) => relation.produce_one_row,
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_) => {
            has_always_a_row(plan.inputs()[0])
        }
        _ => false,
    }
}

/// Of a subquery that may have many rows.
fn many(expression: Expr) -> Result<Transformed<Expr>> {
    match expression {
        Expr::Exists(Exists { subquery, negated }) if !subquery.outer_ref_columns.is_empty() => {
            check_no_other(&subquery.subquery)?;
            let Some(plan) = unlimited(&subquery.subquery)? else { return Ok(Transformed::yes(lit(negated))) };
            check_each_alone(&plan)?;
            let subquery = Subquery { subquery: Arc::new(plan), ..subquery };
            Ok(Transformed::yes(Expr::Exists(Exists { subquery, negated })))
        }
        Expr::InSubquery(InSubquery { ref subquery, .. }) | Expr::SetComparison(SetComparison { ref subquery, .. })
            if !subquery.outer_ref_columns.is_empty() =>
        {
            check_no_other(&subquery.subquery)?;
            check_each_alone(&subquery.subquery)?;
            Ok(Transformed::no(expression))
        }
        Expr::ScalarSubquery(ref subquery) if !subquery.outer_ref_columns.is_empty() => {
            check_no_other(&subquery.subquery)?;
            Ok(Transformed::no(expression))
        }
        expression => Ok(Transformed::no(expression)),
    }
}

/// The plan without a limit that changes nothing about whether there is a row; none where there never is.
fn unlimited(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let inner = match plan {
        LogicalPlan::Limit(limit) => match passes_first(limit)? {
            Some(true) => return unlimited(&limit.input),
            Some(false) if matches!(limit.get_fetch_type()?, FetchType::Literal(Some(0))) => return Ok(None),
            _ => return Ok(Some(plan.clone())),
        },
        LogicalPlan::Sort(sort) => return unlimited(&sort.input),
        LogicalPlan::Projection(projection) => &projection.input,
        LogicalPlan::SubqueryAlias(alias) => &alias.input,
        plan => return Ok(Some(plan.clone())),
    };
    unlimited(inner)?.map(|inner| plan.with_new_exprs(plan.expressions(), vec![inner])).transpose()
}

/// A limit and a window count the rows of all groups at once when these are found by a join.
fn check_each_alone(plan: &LogicalPlan) -> Result<()> {
    let counts = |node: &LogicalPlan| {
        matches!(node, LogicalPlan::Limit(_) | LogicalPlan::Window(_)) && !node.all_out_ref_exprs().is_empty()
    };
    let (place, what, instead) = match first(plan, counts)? {
        None => return Ok(()),
        Some(LogicalPlan::Window(_)) => (
            Place::Words(&["OVER"]),
            "OVER in a subquery",
            "it with PARTITION BY what it is found by, and the condition on the row around outside of it",
        ),
        Some(_) => (
            Place::Nearest(&["OFFSET", "LIMIT"], None),
            "LIMIT, OFFSET in a subquery",
            "(SELECT count(*) FROM .. WHERE ..) > n, or a subquery with ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..)",
        ),
    };
    let message = format!("is not counted for each row around by itself; write {instead}");
    Err(Objection::new(place, what, message).into_error())
}

/// Of an aggregate that is only a part of a subquery it cannot be said that it has a row.
fn check_no_other(plan: &LogicalPlan) -> Result<()> {
    let is_one = |node: &LogicalPlan| match node {
        LogicalPlan::Aggregate(Aggregate { input, group_expr, .. }) => {
            group_expr.is_empty() && !input.all_out_ref_exprs().is_empty()
        }
        _ => false,
    };
    match first(plan, is_one)? {
        Some(LogicalPlan::Aggregate(aggregate)) => {
            let message = "without GROUP BY it has a row even of nothing, which is not maintained in a part of a subquery \
                           that depends on the row around; write a subquery of the aggregate alone";
            let place = aggregate.aggr_expr.first().map_or(Place::Query, Place::of);
            Err(Objection::new(place, "aggregate in a subquery", message).into_error())
        }
        _ => Ok(()),
    }
}

fn check_lateral(side: &LogicalPlan) -> Result<()> {
    let lateral = match side {
        LogicalPlan::SubqueryAlias(alias) => return check_lateral(&alias.input),
        LogicalPlan::Subquery(lateral) if !lateral.outer_ref_columns.is_empty() => lateral,
        _ => return Ok(()),
    };
    match OneRow::of(lateral)? {
        Some(row) if !row.conditions.is_empty() => {
            let message = "of an aggregate without GROUP BY is not maintained in LATERAL; select what it is about, and \
                           write the condition in WHERE of the query around";
            Err(Objection::new(Place::Words(&["HAVING"]), "HAVING", message).into_error())
        }
        Some(_) => Ok(()),
        None => check_no_other(&lateral.subquery),
    }
}

/// The first part of a plan, without the subqueries in its expressions, that is so.
fn first(plan: &LogicalPlan, is_so: impl Fn(&LogicalPlan) -> bool) -> Result<Option<&LogicalPlan>> {
    let mut found = None;
    plan.apply(|node| {
        Ok(if is_so(node) {
            found = Some(node);
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    })?;
    Ok(found)
}
