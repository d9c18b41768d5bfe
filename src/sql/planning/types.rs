//! Types that no row can have: refused wherever a plan makes rows or keys of them.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

use crate::sql::refusal::{Objection, Place};
use crate::sql::row::Codec;
use crate::sql::type_name::type_name;

/// Every column on the way has a type that rows can have, and so has whatever rows are joined, grouped or sorted by.
pub(super) fn check(plan: &LogicalPlan) -> Result<(), Objection> {
    // Innermost first: that is where it is written.
    plan.inputs().into_iter().try_for_each(check)?;
    for (place, field) in plan.schema().fields().iter().enumerate() {
        if let Some(message) = objection(field.data_type()) {
            let made = plan.expressions().get(place).map_or(Place::Query, Place::of);
            let place = if made == Place::Query { Place::Word(field.name().clone()) } else { made };
            return Err(Objection::new(place, format!("column {}", field.name()), message));
        }
    }
    let input = merge_schema(&plan.inputs());
    if let LogicalPlan::Join(join) = plan {
        let mut keys = join.on.iter().flat_map(|(left, right)| [left, right]);
        keys.try_for_each(|key| check_expression(key, &input))?;
    }
    plan.expressions().iter().try_for_each(|expression| check_expression(expression, &input))
}

/// A type that rows are sorted by.
pub(super) fn check_order(kind: &DataType) -> Result<(), Objection> {
    match objection(kind) {
        Some(message) => Err(Objection::new(Place::Words(&["ORDER", "BY"]), "ORDER BY", message)),
        None => Ok(()),
    }
}

/// What an operator computes of its rows, and what the functions are given that see many rows.
fn check_expression(expression: &Expr, input: &DFSchema) -> Result<(), Objection> {
    let mut found = None;
    let mut look = |part: &Expr| {
        // Of a column that comes from around a subquery nothing is known here; it was looked at there.
        let kind = part.get_type(input).ok()?;
        let message = objection(&kind)?;
        found = Some(Objection::new(Place::of(part), part.human_display().to_string(), message));
        Some(())
    };
    if look(expression).is_none() {
        expression.apply(|part| {
            if matches!(part, Expr::AggregateFunction(_) | Expr::WindowFunction(_)) {
                part.apply_children(|child| {
                    let stop = look(child).is_some();
                    Ok(if stop { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
                })?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    found.map_or(Ok(()), Err)
}

/// Why rows cannot have a type, and what to write.
fn objection(kind: &DataType) -> Option<String> {
    let message = || format!("rows cannot have columns of type {}; CAST it to text", type_name(kind));
    (!Codec::supports(kind)).then(message)
}
