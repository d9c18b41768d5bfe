//! What we mean by a query where DataFusion means something else or nothing definite: rules for its analyser, the same for
//! views and for ad-hoc queries, so that both answer alike.
//!
//! | rule | what it settles |
//! | --- | --- |
//! | `epoch` | `now()` and the like are the epoch: its time in an ad-hoc query, a placeholder that nothing folds in a view |
//! | `distinct_on` | `DISTINCT ON` is the first row of each group, by `ROW_NUMBER()` |
//! | `mixed_numbers` | a decimal is compared with a float as one, and whole numbers without a sign are computed with as with one |
//! | `dates` | a date that is moved by less than days is a time |
//! | `durations` | the time between two timestamps is compared with an interval by its length |
//! | `lengths` | texts that functions make have a bound |
//! | `overflows` | `+`, `-`, `*` and `-x` of whole numbers, and of decimals, fail where the result has no room |
//! | `floats` | -0.0 and 0.0 are one key, and so is all that is not a number |
//! | `in_columns` | subqueries in aggregates, windows and `ORDER BY` are columns of the rows below |
//! | `joined_if` | subqueries in `ON` are conditions after the join, or on a side of it; so is what names the row around |
//! | `one_group` | a subquery over an aggregate without `GROUP BY` has its row even of nothing |
//! | `memberships` | `IN (SELECT ..)` under `OR` and `NOT` stays unknown where it is not known; selected, it and `EXISTS` count rows |
//! | `names_apart` | columns of a subquery that are called alike stay apart when it becomes a join, and what it is found by is a column |
//! | `kept_rows` | (of the optimiser) the row of an aggregate without `GROUP BY` is taken away by a condition on a constant |
//! | `lists` | (of the optimiser) lists that one value is looked for in are not made one, which would know nothing of nulls |
//! | `null_keys` | (of the optimiser) joins that hold nulls equal stay apart from those that do not |
//! | `fences` | (of the physical optimiser) limits within a query are not told how many rows are wanted above, and have an order; what is constant of a side is not so where an outer join has nulls for it |
//! | `ties` | rows that `ORDER BY` holds equal are sorted by all columns that are used, ascending, nulls first |
//!
//! In: a plan as DataFusion makes it of SQL. Out: one of the same columns. Not here: what can be maintained (`lower`).

pub(super) mod epoch;
pub(super) mod fences;

mod dates;
mod distinct_on;
mod durations;
mod floats;
mod in_columns;
mod joined_if;
pub(super) mod kept_rows;
pub(super) mod lengths;
pub(super) mod lists;
pub(super) mod memberships;
mod mixed_numbers;
mod names_apart;
pub(super) mod null_keys;
mod one_group;
mod overflows;
mod ties;

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};

use super::functions::bounded::Counted;
pub(super) use epoch::Now;

/// Types are known after `TypeCoercion`; `ROW_NUMBER()` is partitioned by floats too, and its order has ties. `counted`:
/// where texts that functions make count.
pub(super) fn analyzer_rules(now: Now, counted: Option<Arc<Counted>>) -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(epoch::Rule(now)),
        Arc::new(distinct_on::Rule),
        Arc::new(mixed_numbers::Rule),
        Arc::new(dates::Rule),
        Arc::new(TypeCoercion::new()),
        Arc::new(lengths::Rule { counted }),
        Arc::new(overflows::Rule),
        Arc::new(durations::Rule),
        Arc::new(in_columns::Rule),
        Arc::new(joined_if::Rule),
        Arc::new(one_group::Rule),
        Arc::new(floats::Rule),
        Arc::new(memberships::Rule),
        Arc::new(names_apart::Rule),
        Arc::new(ties::Rule),
    ]
}

/// A rule of DataFusion's optimiser, under its name and applied as it is, with something done around it.
#[derive(Debug)]
struct Around<R> {
    rule: R,
    rewrite: fn(&R, LogicalPlan, &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>>,
}

impl<R: OptimizerRule + Debug> OptimizerRule for Around<R> {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.rule.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        (self.rewrite)(&self.rule, plan, config)
    }
}

/// The plan with its own expressions rewritten, each under the name that it had.
fn rewrite_expressions(
    plan: LogicalPlan,
    mut rewrite: impl FnMut(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&plan);
    let rewritten = plan.map_expressions(|expression| {
        let name = names.save(&expression);
        let rewritten = rewrite(expression)?;
        Ok(if rewritten.transformed { rewritten.update_data(|expression| name.restore(expression)) } else { rewritten })
    })?;
    if rewritten.transformed { rewritten.map_data(LogicalPlan::recompute_schema) } else { Ok(rewritten) }
}

/// The plan with what stands in its expressions rewritten, the innermost first, over the columns that they are of; those of
/// subqueries too.
fn rewrite_over_inputs(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    let rewrite_node = |node: LogicalPlan| {
        let input = merge_schema(&node.inputs());
        rewrite_expressions(node, |expression| expression.transform_up(|inner| rewrite(inner, &input)))
    };
    plan.transform_up_with_subqueries(rewrite_node).data()
}

#[cfg(test)]
mod tests;
