//! `SELECT DISTINCT ON (a) b .. ORDER BY a, c`: of each group of equal `a` the first row by `a, c`.
//!
//! DataFusion would take the first value of each column apart, and the first row of a group that has no order would be any.
//! As `ROW_NUMBER() OVER (PARTITION BY a ORDER BY a, c) = 1` it can be maintained, and its ties are broken as all others.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{
    Distinct, DistinctOn, Expr, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFunctionDefinition, lit,
};
use datafusion::optimizer::AnalyzerRule;

/// The name of the number, which no query contains by chance.
const NUMBER: &str = "$number";

/// Numbers the rows of each group and takes the first.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "distinct_on"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Distinct(Distinct::On(distinct)) => Ok(Transformed::yes(first_rows(distinct)?)),
            node => Ok(Transformed::no(node)),
        })?;
        Ok(plan.data)
    }
}

fn first_rows(distinct: DistinctOn) -> Result<LogicalPlan> {
    let DistinctOn { on_expr, select_expr, sort_expr, input, schema } = distinct;
    let order = sort_expr.unwrap_or_default();
    let number = Expr::WindowFunction(Box::new(WindowFunction {
        fun: WindowFunctionDefinition::WindowUDF(row_number_udwf()),
        params: WindowFunctionParams {
            args: Vec::new(),
            partition_by: on_expr.clone(),
            order_by: order.clone(),
            window_frame: WindowFrame::new(Some(true)),
            filter: None,
            null_treatment: None,
            distinct: false,
        },
    }));
    let first = LogicalPlanBuilder::from(input)
        .window([number.alias(NUMBER)])?
        .filter(Expr::from(Column::from_name(NUMBER)).eq(lit(1_u64)))?;
    // The answer is in the order of the groups.
    let sorted = if order.is_empty() { first } else { first.sort(order.into_iter().take(on_expr.len()))? };
    let selected = select_expr.into_iter().zip(schema.iter());
    let selected = selected
        .map(|(expression, (qualifier, field))| expression.unalias().alias_qualified(qualifier.cloned(), field.name()));
    sorted.project(selected.collect::<Vec<_>>())?.build()
}
