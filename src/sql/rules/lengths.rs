//! Functions that can multiply the lengths of texts, or take a time that does, get their bounds, wherever the query has
//! them from; `||` becomes a function that has one.

use std::sync::{Arc, LazyLock};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, tree_node::TransformedResult};
use datafusion::functions::regex::regexp_like;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, ScalarUDF, lit};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite_expressions;
use crate::sql::functions::arithmetic;
use crate::sql::functions::bounded::{Bounded, CONCATENATION, Concatenation, Counted, patterns};
use crate::sql::functions::opaque::OPAQUE;

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
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if searches(op) && !is_quick(&right) => {
                return Ok(Transformed::yes(self.searched(*left, op, *right)));
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

impl Rule {
    /// What an operator of regular expressions says, by a function that has a bound.
    fn searched(&self, text: Expr, operator: Operator, pattern: Expr) -> Expr {
        let mut args = vec![text, pattern];
        if matches!(operator, Operator::RegexIMatch | Operator::RegexNotIMatch) {
            args.push(lit("i"));
        }
        let func = Bounded::of(&regexp_like(), self.counted.as_ref()).expect("it has a bound");
        let is_found = Expr::ScalarFunction(ScalarFunction { func: Arc::new(func), args });
        match operator {
            Operator::RegexNotMatch | Operator::RegexNotIMatch => Expr::Not(Box::new(is_found)),
            _ => is_found,
        }
    }
}

/// Whether an operator looks for a regular expression.
fn searches(operator: Operator) -> bool {
    use Operator::{RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch};
    matches!(operator, RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch)
}

/// Whether it is one that needs no bound.
fn is_quick(pattern: &Expr) -> bool {
    match pattern {
        Expr::Literal(value, _) => value.try_as_str().flatten().is_none_or(patterns::is_always_quick),
        _ => false,
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
        Expr::ScalarFunction(ScalarFunction { func, mut args }) if func.name() == OPAQUE => {
            Ok(Transformed::yes(args.swap_remove(0)))
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) => match (arithmetic::operator(func.name()), &args[..]) {
            (Some(operator), [left, right]) => Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(
                Box::new(left.clone()),
                operator,
                Box::new(right.clone()),
            )))),
            _ => Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))),
        },
        expression => Ok(Transformed::no(expression)),
    };
    let rewrite = |node: LogicalPlan| node.map_expressions(|expression| expression.transform_up(operator));
    plan.clone().transform_up_with_subqueries(rewrite).data()
}
