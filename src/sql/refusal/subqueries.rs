//! Why a plan is refused whose subqueries cannot be taken apart.
//!
//! A subquery that names the row around it becomes a join with that row, by conditions that are found on the way down from
//! where it begins. Conditions elsewhere stay where they are, and DataFusion tells of columns that are not there, by names
//! that nobody wrote. Looked at is the plan as it was written, and only of a query that is refused anyway.

use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, Subquery};

use super::{Objection, Place};

/// What subqueries are called.
const CONDITION_IN: &str = "IN (SELECT ..)";
const CONDITION_EXISTS: &str = "EXISTS (SELECT ..)";
const COMPARISON: &str = "ANY, ALL (SELECT ..)";
const VALUE: &str = "scalar subquery";

/// Where a column of the row around may not be named, and what to write instead.
#[derive(Debug, Clone, Copy)]
struct Spot {
    within: &'static str,
    instead: &'static str,
}

const ON: Spot = Spot { within: "ON", instead: "write the condition in WHERE" };
const LIST: Spot = Spot { within: "SELECT or GROUP BY", instead: "write what is made of it outside of the subquery" };
const JOIN: Spot = Spot { within: "a side of a join", instead: "write the condition in the WHERE above that join" };
const SET: Spot = Spot {
    within: "UNION, EXCEPT or INTERSECT",
    instead: "write a subquery for each, with OR, AND or AND NOT between them",
};
const COUNTED: Spot = Spot {
    within: "what LIMIT or OVER counts, which is not done for each row around by itself",
    instead: "write max(..) or min(..), or a join with a subquery that has ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..)",
};
const TABLE: Spot = Spot {
    within: "a subquery in FROM that has an aggregate",
    instead: "select there what it is compared with, with GROUP BY, and write the condition outside of FROM",
};

/// What DataFusion says of a subquery that did not become a join.
const LEFT: &str = "Physical plan does not support logical expression";

/// Of conditions, scalar subqueries, and scalar subqueries that are the same for all rows.
const PREDICATE: &str = "can be a condition in WHERE, where it meets the rows around it by equalities; write it so, or a \
                         LEFT JOIN with SELECT DISTINCT .. and IS NOT NULL";
const SCALAR: &str =
    "can be an aggregate that meets the rows around it by equalities; write a JOIN with SELECT .. GROUP BY";
const SAME: &str = "is the same for all rows, and can be so in WHERE and in SELECT; write CROSS JOIN \
                    (SELECT max(..) AS m FROM ..), and m here";

/// Why a plan is refused, given why DataFusion refuses it.
pub(in crate::sql) fn explained(plan: &LogicalPlan, error: DataFusionError) -> Objection {
    let is_ours = matches!(error.find_root(), DataFusionError::External(inner) if inner.is::<Objection>());
    let is_left = error.strip_backtrace().contains(LEFT);
    let left = || if is_left { misplaced(plan).or_else(|| left_over(plan)) } else { None };
    let blamed = || blamed(plan).or_else(left);
    let blamed = if is_ours { None } else { blamed() };
    blamed.unwrap_or_else(|| error.into())
}

/// The same, given what is refused of what the plan has become.
pub(in crate::sql) fn explained_late(plan: &LogicalPlan, objection: Objection) -> Objection {
    let is_of_subquery =
        [CONDITION_IN, CONDITION_EXISTS, COMPARISON, VALUE, "subquery"].contains(&&*objection.construct);
    // By then all columns are there that the query names.
    let blamed = if is_of_subquery || objection.construct.starts_with("column ") { blamed(plan) } else { None };
    blamed.unwrap_or(objection)
}

/// The first subquery that cannot be taken apart.
fn blamed(plan: &LogicalPlan) -> Option<Objection> {
    let inputs = plan.inputs();
    let around = |column: &Column| inputs.iter().any(|input| input.schema().has_column(column));
    let mut found = None;
    plan.apply_expressions(|expression| {
        expression.apply(|inner| {
            found = found.take().or_else(|| subquery_of(inner).and_then(|inner| blamed_subquery(inner, &around)));
            Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })
    .expect("nothing fails");
    let lateral = |side: &&LogicalPlan| match side {
        LogicalPlan::Subquery(lateral) => blamed_subquery(lateral, &around),
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::Subquery(lateral) => blamed_subquery(lateral, &around),
            _ => None,
        },
        _ => None,
    };
    found.or_else(|| inputs.iter().find_map(lateral)).or_else(|| inputs.iter().find_map(|input| blamed(input)))
}

fn subquery_of(expression: &Expr) -> Option<&Subquery> {
    match expression {
        Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. })
        | Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

/// `is_around`: whether the row around has a column.
fn blamed_subquery(subquery: &Subquery, is_around: &impl Fn(&Column) -> bool) -> Option<Objection> {
    let outer = subquery.outer_ref_columns.iter().filter_map(outer_column);
    // What a LATERAL inside names of the row beside it is counted too.
    let is_inside = |column: &Column| any(&subquery.subquery, |node| node.schema().has_column(column));
    if let Some(column) = outer.clone().find(|column| !is_around(column) && !is_inside(column)) {
        let message = "is of a row further out than the one right around the subquery, which may be named alone; join what \
                       stands between with a table that has it";
        return Some(Objection::new(Place::of_column(column), format!("column {}", column.flat_name()), message));
    }
    let own = match outer.count() {
        0 => None,
        _ => meets(&subquery.subquery, None, is_around).or_else(|| nested(subquery)),
    };
    own.or_else(|| blamed(&subquery.subquery))
}

fn outer_column(expression: &Expr) -> Option<&Column> {
    match expression {
        Expr::OuterReferenceColumn(_, column) => Some(column),
        _ => None,
    }
}

/// The first place where the row around is named and may not be. `spot`: what stands above.
fn meets(plan: &LogicalPlan, spot: Option<Spot>, is_around: &impl Fn(&Column) -> bool) -> Option<Objection> {
    let own = match plan {
        LogicalPlan::Filter(_) => spot,
        LogicalPlan::Join(_) => Some(spot.unwrap_or(ON)),
        _ => Some(spot.unwrap_or(LIST)),
    };
    if let Some((spot, (column, place))) = own.zip(named(plan, is_around)) {
        let Spot { within, instead } = spot;
        let message = format!("is of the row around the subquery, and stands within {within}; {instead}");
        return Some(Objection::new(place, format!("column {}", column.flat_name()), message));
    }
    let below = match plan {
        LogicalPlan::Union(_) => Some(SET),
        LogicalPlan::Join(join) if matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti) => Some(SET),
        LogicalPlan::Join(_) => Some(JOIN),
        LogicalPlan::Limit(_) | LogicalPlan::Window(_) => Some(COUNTED),
        LogicalPlan::SubqueryAlias(alias) if puts_together(&alias.input) => Some(TABLE),
        _ => None,
    };
    plan.inputs().into_iter().find_map(|input| meets(input, spot.or(below), is_around))
}

/// Whether a table in `FROM` is made of groups.
fn puts_together(plan: &LogicalPlan) -> bool {
    any(plan, |node| matches!(node, LogicalPlan::Aggregate(_)))
}

fn any(plan: &LogicalPlan, is_so: impl Fn(&LogicalPlan) -> bool) -> bool {
    plan.exists(|node| Ok(is_so(node))).expect("nothing fails")
}

/// A column of the row around that an operator itself names, and where: what it is compared with knows that better.
fn named(plan: &LogicalPlan, is_around: &impl Fn(&Column) -> bool) -> Option<(Column, Place)> {
    let mut named = None;
    plan.apply_expressions(|expression| {
        expression.apply(|inner| {
            let outer = outer_column(inner).filter(|column| is_around(column));
            named = outer.map(|column| (column.clone(), Place::of(expression)));
            Ok(if named.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })
    .expect("nothing fails");
    named
}

/// A subquery in one that names the row around, where that makes it none that can be taken apart.
fn nested(outer: &Subquery) -> Option<Objection> {
    let mut found = None;
    outer
        .subquery
        .apply(|node| {
            let place = match node {
                LogicalPlan::Filter(filter) if !matches!(*filter.input, LogicalPlan::Aggregate(_)) => None,
                LogicalPlan::Filter(_) => Some("HAVING"),
                _ => Some("SELECT"),
            };
            node.apply_expressions(|expression| {
                expression.apply(|inner| {
                    let message = match (inner, place) {
                        (Expr::InSubquery(found), _) if found.expr.contains_outer() => {
                            "looks for what is of the row around; write that condition outside of the subquery"
                                .to_owned()
                        }
                        (_, None) => return Ok(TreeNodeRecursion::Continue),
                        (_, Some(place)) => {
                            format!(
                                "stands in {place} of a subquery that names the row around; write it as a join there"
                            )
                        }
                    };
                    found = kind(inner).map(|what| Objection::new(Place::of(inner), what, message));
                    Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
                })
            })
        })
        .expect("nothing fails");
    found
}

/// A subquery in an operator that is none of those that have one.
fn misplaced(plan: &LogicalPlan) -> Option<Objection> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        let place = match node {
            LogicalPlan::Aggregate(_) => "an aggregate or GROUP BY",
            LogicalPlan::Window(_) => "a window",
            LogicalPlan::Join(_) => "ON",
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        node.apply_expressions(|expression| {
            expression.apply(|inner| {
                let is_same = matches!(inner, Expr::ScalarSubquery(found) if found.outer_ref_columns.is_empty());
                found = kind(inner).filter(|_| !is_same).map(|what| {
                    let message =
                        format!("stands in {place}; make it a column of a subquery in FROM, and name that here");
                    Objection::new(Place::of(inner), what, message)
                });
                Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })
    .expect("nothing fails");
    found
}

/// A subquery that stays, of a plan in which one did: of the conditions those that are none by themselves.
fn left_over(plan: &LogicalPlan) -> Option<Objection> {
    let (mut condition, mut scalar) = (None, None);
    plan.apply_with_subqueries(|node| {
        let takes_conditions = matches!(node, LogicalPlan::Filter(_));
        node.apply_expressions(|expression| {
            expression.apply(|inner| {
                match inner {
                    Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => {}
                    Expr::ScalarSubquery(_) => scalar = scalar.take().or_else(|| left_in(inner)),
                    inner if !takes_conditions && subquery_of(inner).is_some() => {
                        condition = condition.take().or_else(|| left_in(inner));
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .expect("nothing fails");
    condition.or(scalar)
}

/// What is refused of an expression with a subquery in it that is no join.
pub(in crate::sql) fn left_in(expression: &Expr) -> Option<Objection> {
    let mut found = None;
    expression
        .apply(|inner| {
            let message = match inner {
                Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => PREDICATE,
                Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => SAME,
                Expr::ScalarSubquery(_) | Expr::OuterReferenceColumn(..) => SCALAR,
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            let what = kind(inner).unwrap_or(VALUE);
            found = Some(Objection::new(Place::of(inner), what, message));
            Ok(TreeNodeRecursion::Stop)
        })
        .expect("nothing fails");
    found
}

/// What a subquery is called.
fn kind(expression: &Expr) -> Option<&'static str> {
    match expression {
        Expr::InSubquery(_) => Some(CONDITION_IN),
        Expr::Exists(_) => Some(CONDITION_EXISTS),
        Expr::SetComparison(_) => Some(COMPARISON),
        Expr::ScalarSubquery(_) => Some(VALUE),
        _ => None,
    }
}
