//! No answer depends on the order in which rows come: rows that `ORDER BY` holds equal are sorted by all columns that are
//! used, as they stand there, ascending, nulls first. That is the order of the bytes of rows in the default codec.
//!
//! It holds for `ORDER BY` (with its `LIMIT`) and for `ROW_NUMBER()`. A `LIMIT` without `ORDER BY` takes the first rows by
//! all columns. Columns that nobody uses are taken away first: else every column of a table would have to be kept to tell
//! which rows are the first three of a group, and every change of any column would be a change of the view. Rows that are
//! equal in all columns that are used cannot be told apart in the answer.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Sort, SortExpr, WindowFrame, WindowFunctionDefinition};
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::{AnalyzerRule, Optimizer, OptimizerContext};

use super::rewrite_expressions;

/// Breaks ties.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "ties"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        if !has_order(&plan)? {
            return Ok(plan);
        }
        let optimizer = Optimizer::with_rules(vec![Arc::new(OptimizeProjections::new())]);
        let context = OptimizerContext::new_with_config_options(Arc::new(config.clone())).with_max_passes(1);
        let pruned = optimizer.optimize(plan, &context, |_, _| {})?;
        Ok(pruned.transform_up_with_subqueries(break_ties)?.data)
    }
}

fn has_order(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Sort(_) | LogicalPlan::Limit(_) | LogicalPlan::Window(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn break_ties(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Sort(Sort { mut expr, input, fetch }) => {
            let ties = ties(&expr, &input);
            let transformed = !ties.is_empty();
            expr.extend(ties);
            Ok(Transformed::new_transformed(LogicalPlan::Sort(Sort { expr, input, fetch }), transformed))
        }
        // What refers to a row around it is no query of its own yet; DataFusion could not take it apart any more.
        LogicalPlan::Limit(mut limit) if !is_sorted(&limit.input) && limit.input.all_out_ref_exprs().is_empty() => {
            let expr = ties(&[], &limit.input);
            let transformed = !expr.is_empty();
            if transformed {
                limit.input = Arc::new(LogicalPlan::Sort(Sort { expr, input: limit.input, fetch: None }));
            }
            Ok(Transformed::new_transformed(LogicalPlan::Limit(limit), transformed))
        }
        LogicalPlan::Window(window) => {
            let input = Arc::clone(&window.input);
            rewrite_expressions(LogicalPlan::Window(window), |expression| {
                expression.transform_up(|inner| match inner {
                    Expr::WindowFunction(function) => Ok(number(function, &input)),
                    inner => Ok(Transformed::no(inner)),
                })
            })
        }
        plan => Ok(Transformed::no(plan)),
    }
}

/// Numbers rows that are equal by what is said in a definite order.
fn number(mut function: Box<WindowFunction>, input: &LogicalPlan) -> Transformed<Expr> {
    let numbers = matches!(&function.fun, WindowFunctionDefinition::WindowUDF(kind) if kind.name() == "row_number");
    let ties = if numbers { ties(&function.params.order_by, input) } else { Vec::new() };
    let transformed = !ties.is_empty();
    if transformed {
        function.params.order_by.extend(ties);
        // The number of a row does not depend on a frame, but a frame of ranges depends on the order's types.
        function.params.window_frame = WindowFrame::new(Some(true));
    }
    Transformed::new_transformed(Expr::WindowFunction(function), transformed)
}

/// All columns that do not stand in the order as they are.
fn ties(order: &[SortExpr], input: &LogicalPlan) -> Vec<SortExpr> {
    let given: HashSet<&Column> = order.iter().filter_map(|sort| sort.expr.try_as_col()).collect();
    let columns = input.schema().columns().into_iter().filter(|column| !given.contains(column));
    columns.map(|column| Expr::Column(column).sort(true, true)).collect()
}

/// Whether the rows that a `LIMIT` takes come in an order that it can rely on.
fn is_sorted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(Projection { input, .. }) => is_sorted(input),
        LogicalPlan::Limit(limit) => is_sorted(&limit.input),
        _ => false,
    }
}
