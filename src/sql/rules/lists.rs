//! Lists that one value is looked for in stay apart.
//!
//! DataFusion makes one of two: `x IN (1, 2) AND x IN (3)` looks in nothing and is false, and a null in a list is as good as
//! any other item. But where `x` is null it is not known whether it is in a list, nor is it of anything that is in none
//! where there is a null; under `NOT` and `OR` that lets rows in which SQL leaves out.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, lit};
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::Around;
use crate::sql::functions::opaque::{OPAQUE, opaque};

/// DataFusion's rule, but for such lists.
pub(in crate::sql) fn rule() -> impl OptimizerRule {
    Around { rule: SimplifyExpressions::new(), rewrite: with_lists_apart }
}

fn with_lists_apart(
    rule: &SimplifyExpressions,
    plan: LogicalPlan,
    config: &dyn OptimizerConfig,
) -> Result<Transformed<LogicalPlan>> {
    if !has_two_of_one(&plan)? {
        return rule.rewrite(plan, config);
    }
    let (preserver, mut names, mut number) = (NamePreserver::new(&plan), Vec::new(), 0);
    let hidden = plan.map_expressions(|expression| {
        names.push(preserver.save(&expression));
        expression.transform_up(|inner| Ok(hidden(inner, &mut number)))
    })?;
    let simplified = rule.rewrite(hidden.data, config)?;
    let mut names = names.into_iter();
    let shown = simplified.data.map_expressions(|expression| {
        let shown = expression.transform_up(shown)?;
        let name = names.next().expect("there are as many expressions as before");
        Ok(shown.update_data(|expression| name.restore(expression)))
    });
    Ok(Transformed::new_transformed(shown.data()?, simplified.transformed))
}

/// What an expression looks for in a list, or in one value that is as good as a list.
fn looked_for(expression: &Expr) -> Option<&Expr> {
    match expression {
        Expr::InList(InList { expr, .. }) => Some(&**expr).filter(|looked_for| looked_for.any_column_refs()),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (&**left, &**right) {
            (column @ Expr::Column(_), Expr::Literal(..)) | (Expr::Literal(..), column @ Expr::Column(_)) => {
                Some(column)
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether one expression is looked for twice.
fn has_two_of_one(plan: &LogicalPlan) -> Result<bool> {
    let (mut known, mut has_two) = (Vec::new(), false);
    plan.apply_expressions(|expression| {
        expression.apply(|inner| {
            if let Some(looked_for) = looked_for(inner) {
                has_two |= known.contains(looked_for);
                known.push(looked_for.clone());
            }
            Ok(if has_two { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(has_two)
}

/// The same, looking for something that nothing else looks for.
fn hidden(expression: Expr, number: &mut i64) -> Transformed<Expr> {
    if looked_for(&expression).is_none() {
        return Transformed::no(expression);
    }
    *number += 1;
    let hide = |inner: Box<Expr>| Box::new(opaque(*inner, lit(*number)));
    Transformed::yes(match expression {
        Expr::InList(InList { expr, list, negated }) => Expr::InList(InList { expr: hide(expr), list, negated }),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let is_left = matches!(*left, Expr::Column(_));
            let (left, right) = if is_left { (hide(left), right) } else { (left, hide(right)) };
            Expr::BinaryExpr(BinaryExpr { left, op, right })
        }
        other => return Transformed::no(other),
    })
}

/// What was hidden; what others hid stays so.
fn shown(expression: Expr) -> Result<Transformed<Expr>> {
    match expression {
        Expr::ScalarFunction(ScalarFunction { func, mut args })
            if func.name() == OPAQUE && matches!(args[..], [_, Expr::Literal(..)]) =>
        {
            Ok(Transformed::yes(args.swap_remove(0)))
        }
        expression => Ok(Transformed::no(expression)),
    }
}
