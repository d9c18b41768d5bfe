//! Subqueries in aggregates, `GROUP BY`, windows and `ORDER BY` become columns of the rows below.
//!
//! In what is selected and in conditions they can be made joins, elsewhere they cannot. What they name of the row around is
//! there below as well.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use datafusion::optimizer::AnalyzerRule;

use crate::sql::subquery::{has_subquery, subquery_of};
use crate::sql::words;

/// Makes columns of them.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "in_columns"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let number = Cell::new(0);
        let rewrite = |node: LogicalPlan| match node {
            LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Sort(_)
                if node.expressions().iter().any(has_subquery) =>
            {
                over_columns(&node, &number).map(Transformed::yes)
            }
            node => Ok(Transformed::no(node)),
        };
        plan.transform_up_with_subqueries(rewrite).data()
    }
}

/// The same over rows in which its subqueries are columns. `number`: how many such columns there are.
fn over_columns(node: &LogicalPlan, number: &Cell<usize>) -> Result<LogicalPlan> {
    let is_sort = matches!(node, LogicalPlan::Sort(_));
    let names = NamePreserver::new(node);
    let mut made: Vec<(Expr, String)> = Vec::new();
    let mut column = |subquery: Expr| {
        let known = made.iter().find(|(known, _)| *known == subquery).map(|(_, name)| name.clone());
        let name = known.unwrap_or_else(|| {
            number.set(number.get() + 1);
            let name = words::made_name(number.get(), "(SELECT ..)");
            made.push((subquery, name.clone()));
            name
        });
        Expr::Column(Column::new_unqualified(name))
    };
    let expressions = node.expressions().into_iter().map(|expression| {
        let name = names.save(&expression);
        let over = expression.transform_down(|inner| {
            Ok(match subquery_of(&inner) {
                Some(_) => Transformed::new(column(inner), true, TreeNodeRecursion::Jump),
                None => Transformed::no(inner),
            })
        })?;
        // What is sorted by has no name.
        Ok(if over.transformed && !is_sort { name.restore(over.data) } else { over.data })
    });
    let expressions = expressions.collect::<Result<Vec<_>>>()?;
    let input = node.inputs()[0];
    let columns = input.schema().columns().into_iter().map(Expr::Column);
    let columns = columns.chain(made.into_iter().map(|(subquery, name)| subquery.alias(name)));
    let below = Projection::try_new(columns.collect(), Arc::new(input.clone()))?;
    let above = node.with_new_exprs(expressions, vec![LogicalPlan::Projection(below)])?;
    if matches!(node, LogicalPlan::Aggregate(_)) {
        return Ok(above);
    }
    // Others pass on what they are given.
    let columns = node.schema().columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(above))?))
}
