//! Functions that can multiply the lengths of texts, or take a time that does, get their bounds, wherever the query has
//! them from; `||` becomes a function that has one.

use std::sync::{Arc, LazyLock};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, tree_node::TransformedResult};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite_expressions;
use crate::sql::functions::bounded::{Bounded, CONCATENATION, Concatenation, Counted};

static CONCATENATE: LazyLock<ScalarUDF> = LazyLock::new(|| ScalarUDF::from(Concatenation::new()));

/// Bounds functions.
#[derive(Debug)]
pub(super) struct Rule {
    /// Where the texts that they make count.
    pub(super) counted: Option<Arc<Counted>>,
}

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "lengths"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewrite = |node| rewrite_expressions(node, |expression| expression.transform_up(|inner| self.bound(inner)));
        plan.transform_up_with_subqueries(rewrite).data()
    }
}

impl Rule {
    fn bound(&self, expression: Expr) -> Result<Transformed<Expr>> {
        let (function, args) = match expression {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
                (Bounded::of(&CONCATENATE, self.counted.as_ref()), vec![*left, *right])
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) => match Bounded::of(&func, self.counted.as_ref()) {
                Some(bounded) => (Some(bounded), args),
                None => return Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))),
            },
            expression => return Ok(Transformed::no(expression)),
        };
        let func = Arc::new(function.expect("`||` has a bound, and so has what was found to have one"));
        Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
    }
}

/// The plan with operators where they were written, for people.
pub(in crate::sql) fn as_written(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let operator = |expression| match expression {
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == CONCATENATION => {
            let [left, right] = <[Expr; 2]>::try_from(args).expect("an operator has two sides");
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(
                Box::new(left),
                Operator::StringConcat,
                Box::new(right),
            ))))
        }
        expression => Ok(Transformed::no(expression)),
    };
    let rewrite = |node: LogicalPlan| node.map_expressions(|expression| expression.transform_up(operator));
    plan.clone().transform_up_with_subqueries(rewrite).data()
}
