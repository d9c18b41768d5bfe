//! `+`, `-` and `*` of whole numbers fail where the result has no room.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite_expressions;
use crate::sql::functions::arithmetic;

/// Puts functions where operators stand.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "overflows"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewrite = |node: LogicalPlan| {
            let input = merge_schema(&node.inputs());
            rewrite_expressions(node, |expression| expression.transform_up(|inner| Ok(checked(inner, &input))))
        };
        plan.transform_up_with_subqueries(rewrite).data()
    }
}

fn checked(expression: Expr, input: &DFSchema) -> Transformed<Expr> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expression else { return Transformed::no(expression) };
    let is_whole = |side: &Expr| side.get_type(input).is_ok_and(|kind| kind.is_integer());
    match arithmetic::function(op).filter(|_| is_whole(&left) && is_whole(&right)) {
        Some(func) => Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: vec![*left, *right] })),
        None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
    }
}
