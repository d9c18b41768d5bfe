//! Why a plan is refused whose subqueries cannot be taken apart.
//!
//! A subquery that names the row around it becomes a join with that row, by conditions that are found on the way down from
//! where it begins. Conditions elsewhere stay where they are, and DataFusion tells of columns that are not there, by names
//! that nobody wrote. Looked at is the plan as it was written, and only of a query that is refused anyway.

use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, JoinType, LogicalPlan, Operator, Subquery};

use super::{Objection, Place};
use crate::sql::subquery::{outer_column, subquery_of};

/// What subqueries are called.
const CONDITION_IN: &str = "IN (SELECT ..)";
const CONDITION_EXISTS: &str = "EXISTS (SELECT ..)";
const COMPARISON: &str = "ANY, ALL (SELECT ..)";
const VALUE: &str = "scalar subquery";
const LATERAL: &str = "LATERAL (SELECT ..)";

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

/// Of subqueries with aggregates or GROUP BY.
const UNEQUAL: &str = "has an aggregate or GROUP BY, and so meets the row around it by equalities alone, with what is its own \
                       on one side and what is of that row on the other; write a JOIN with SELECT .. GROUP BY";
const NO_CONDITION: &str = "is no condition in WHERE, and so meets the row around it by equalities alone, with what is its own \
                            on one side and what is of that row on the other; write it in WHERE, or a JOIN";
const MADE: &str = "has GROUP BY, and so meets the row around it by columns alone; select what is compared under a name, in \
                    a subquery in its FROM";

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
    let blamed = if objection.may_be_left { blamed(plan).or_else(|| misplaced(plan)) } else { None };
    blamed.unwrap_or(objection)
}

/// What is found first in an expression.
fn found_in<T>(expression: &Expr, mut look: impl FnMut(&Expr) -> Option<T>) -> Option<T> {
    let mut found = None;
    let walk = expression.apply(|inner| {
        found = look(inner);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walk.expect("nothing fails");
    found
}

/// What is found first in the expressions of an operator itself.
fn found_at<T>(node: &LogicalPlan, mut look: impl FnMut(&Expr) -> Option<T>) -> Option<T> {
    let mut found = None;
    let walk = node.apply_expressions(|expression| {
        found = found_in(expression, &mut look);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walk.expect("nothing fails");
    found
}

/// What is found first in a plan, the plans of its subqueries included.
fn found_below<T>(plan: &LogicalPlan, mut look: impl FnMut(&LogicalPlan) -> Option<T>) -> Option<T> {
    let mut found = None;
    let walk = plan.apply_with_subqueries(|node| {
        found = look(node);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walk.expect("nothing fails");
    found
}

/// The first subquery that cannot be taken apart.
fn blamed(plan: &LogicalPlan) -> Option<Objection> {
    let inputs = plan.inputs();
    let around = |column: &Column| inputs.iter().any(|input| input.schema().has_column(column));
    let found = found_at(plan, |inner| {
        let counted = match (plan, inner) {
            (LogicalPlan::Filter(_), _) | (_, Expr::ScalarSubquery(_)) => None,
            _ => Some(SELECTED),
        };
        let sought = match inner {
            Expr::InSubquery(found) => looked_for(found),
            _ => None,
        };
        sought.or_else(|| blamed_subquery(subquery_of(inner)?, kind(inner)?, counted, &around))
    });
    let lateral = |side: &&LogicalPlan| match (plan, side) {
        (LogicalPlan::Join(_), LogicalPlan::Subquery(lateral)) => blamed_subquery(lateral, LATERAL, None, &around),
        (LogicalPlan::Join(_), LogicalPlan::SubqueryAlias(alias)) => match alias.input.as_ref() {
            LogicalPlan::Subquery(lateral) => blamed_subquery(lateral, LATERAL, None, &around),
            _ => None,
        },
        _ => None,
    };
    found.or_else(|| inputs.iter().find_map(lateral)).or_else(|| inputs.iter().find_map(|input| blamed(input)))
}

/// What `IN` looks for, where that is of a subquery which names the row around.
pub(in crate::sql) fn looked_for(found: &InSubquery) -> Option<Objection> {
    found_in(&found.expr, |inner| {
        subquery_of(inner).filter(|subquery| !subquery.outer_ref_columns.is_empty())?;
        let message = "is what IN looks for; make it a column of a subquery in FROM, and name that here";
        Some(Objection::new(Place::of(inner), kind(inner)?, message))
    })
}

/// `what`: what it is called; `counted`: what its rows are put together for; `is_around`: whether the row around has a column.
fn blamed_subquery(
    subquery: &Subquery,
    what: &str,
    counted: Option<Groups<'_>>,
    is_around: &impl Fn(&Column) -> bool,
) -> Option<Objection> {
    let outer = subquery.outer_ref_columns.iter().filter_map(outer_column);
    // What a LATERAL inside names of the row beside it is counted too.
    let is_inside = |column: &Column| any(&subquery.subquery, |node| node.schema().has_column(column));
    if let Some(column) = outer.clone().find(|column| !is_around(column) && !is_inside(column)) {
        let message = "is of a row further out than the one right around the subquery, which may be named alone; join what \
                       stands between with a table that has it";
        let named = |inner: &Expr| outer_column(inner).filter(|named| *named == column).map(Place::of_column);
        let place = found_below(&subquery.subquery, |node| found_at(node, named)).unwrap_or(Place::Query);
        return Some(Objection::new(place, format!("column {}", column.flat_name()), message));
    }
    let own = match outer.count() {
        0 => None,
        _ => meets(&subquery.subquery, None, is_around)
            .or_else(|| nested(subquery))
            .or_else(|| grouped(&subquery.subquery, counted, what)),
    };
    own.or_else(|| blamed(&subquery.subquery))
}

/// The first place where the row around is named and may not be. `spot`: what stands above.
fn meets(plan: &LogicalPlan, spot: Option<Spot>, is_around: &impl Fn(&Column) -> bool) -> Option<Objection> {
    let own = match plan {
        LogicalPlan::Filter(_) => spot,
        // The condition goes above the join.
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => spot,
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
    let outer = |inner: &Expr| outer_column(inner).filter(|column| is_around(column)).cloned();
    plan.expressions().iter().find_map(|expression| {
        let column = found_in(expression, outer)?;
        let place = match Place::of(expression) {
            place @ Place::At(_) => place,
            _ => Place::of_column(&column),
        };
        Some((column, place))
    })
}

/// What puts rows together.
#[derive(Debug, Clone, Copy)]
struct Groups<'a> {
    keys: &'a [Expr],
    /// Why conditions on these rows cannot name the row around but in equalities.
    unequal: &'static str,
}

/// Of conditions that are selected: how many rows there are is asked.
const SELECTED: Groups<'_> = Groups { keys: &[], unequal: NO_CONDITION };

/// A condition by which what is put together cannot meet the row around. `groups`: what stands above it.
fn grouped(plan: &LogicalPlan, groups: Option<Groups<'_>>, what: &str) -> Option<Objection> {
    if let (LogicalPlan::Filter(filter), Some(groups)) = (plan, groups) {
        let mut meeting =
            split_conjunction(&filter.predicate).into_iter().filter(|condition| condition.contains_outer());
        let refused = meeting.find_map(|condition| Some((condition, unfit(condition, groups)?)));
        if let Some((condition, message)) = refused {
            return Some(Objection::new(Place::of(condition), what, message));
        }
    }
    let groups = match plan {
        LogicalPlan::Aggregate(aggregate) => Some(Groups { keys: &aggregate.group_expr, unequal: UNEQUAL }),
        _ => groups,
    };
    plan.inputs().into_iter().find_map(|input| grouped(input, groups, what))
}

/// Why a condition that names the row around cannot stand below an aggregate.
fn unfit(condition: &Expr, groups: Groups<'_>) -> Option<&'static str> {
    let Groups { keys, unequal } = groups;
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return Some(unequal) };
    let is_outer = |side: &Expr| !side.any_column_refs() && side.contains_outer();
    let own = match (is_outer(left), is_outer(right)) {
        (true, false) => right,
        (false, true) => left,
        _ => return Some(unequal),
    };
    match &**own {
        own if own.contains_outer() || !own.any_column_refs() => Some(unequal),
        Expr::Column(_) => None,
        // Under a name of its own it is a column.
        _ if keys.is_empty() => None,
        _ => Some(MADE),
    }
}

/// A subquery in one that names the row around, where that makes it none that can be taken apart.
fn nested(outer: &Subquery) -> Option<Objection> {
    let in_operator = |node: &LogicalPlan| {
        let place = match node {
            LogicalPlan::Filter(filter) if !matches!(*filter.input, LogicalPlan::Aggregate(_)) => None,
            LogicalPlan::Filter(_) => Some("HAVING"),
            _ => Some("SELECT"),
        };
        found_at(node, |inner| {
            let message = match (inner, place) {
                (Expr::InSubquery(found), _) if found.expr.contains_outer() => {
                    "looks for what is of the row around; write that condition outside of the subquery".to_owned()
                }
                (_, None) => return None,
                (_, Some(place)) => {
                    format!("stands in {place} of a subquery that names the row around; write it as a join there")
                }
            };
            kind(inner).map(|what| Objection::new(Place::of(inner), what, message))
        })
    };
    first_of(&outer.subquery, &in_operator)
}

/// What is found first in a plan, its subqueries left out.
fn first_of<T>(plan: &LogicalPlan, look: &impl Fn(&LogicalPlan) -> Option<T>) -> Option<T> {
    look(plan).or_else(|| plan.inputs().into_iter().find_map(|input| first_of(input, look)))
}

/// A subquery in an operator that is none of those that have one.
fn misplaced(plan: &LogicalPlan) -> Option<Objection> {
    found_below(plan, |node| {
        let place = match node {
            LogicalPlan::Aggregate(_) => "an aggregate or GROUP BY",
            LogicalPlan::Window(_) => "a window",
            LogicalPlan::Join(_) => "ON",
            _ => return None,
        };
        found_at(node, |inner| {
            let is_same = matches!(inner, Expr::ScalarSubquery(found) if found.outer_ref_columns.is_empty());
            let what = kind(inner).filter(|_| !is_same)?;
            let message = match inner {
                Expr::ScalarSubquery(_) => {
                    format!("stands in {place}; make it a column of a subquery in FROM, and name that here")
                }
                _ => PREDICATE.to_owned(),
            };
            Some(Objection::new(Place::of(inner), what, message))
        })
    })
}

/// A subquery that stays, of a plan in which one did: of the conditions those that are none by themselves.
fn left_over(plan: &LogicalPlan) -> Option<Objection> {
    let condition = |node: &LogicalPlan| match node {
        LogicalPlan::Filter(_) => None,
        node => found_at(node, |inner| match inner {
            Expr::ScalarSubquery(_) => None,
            inner => subquery_of(inner).and_then(|_| left_in(inner)),
        }),
    };
    let scalar = |node: &LogicalPlan| {
        found_at(node, |inner| match inner {
            Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty() => left_in(inner),
            _ => None,
        })
    };
    found_below(plan, condition).or_else(|| found_below(plan, scalar))
}

/// What is refused of an expression with a subquery in it that is no join.
pub(in crate::sql) fn left_in(expression: &Expr) -> Option<Objection> {
    found_in(expression, |inner| {
        let message = match inner {
            Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => PREDICATE,
            Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => SAME,
            Expr::ScalarSubquery(_) | Expr::OuterReferenceColumn(..) => SCALAR,
            _ => return None,
        };
        Some(Objection::new(Place::of(inner), kind(inner).unwrap_or(VALUE), message))
    })
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
