//! Columns of a subquery that are called alike stay apart when it becomes a join.
//!
//! What meets the row around (`p.id = g.id`, of which `g` is around) leaves the subquery for the condition of that join, and
//! its columns go along, under the name of the subquery: `p.id` and `h.id` would both be `id` of it then, and DataFusion takes
//! both for the first. So where names meet, such columns get names of their own.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, TableReference};
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Projection};
use datafusion::optimizer::AnalyzerRule;

/// Gives them names of their own.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "names_apart"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let names = Names(Cell::new(0));
        // The plans of all subqueries come in such a node, those of expressions too.
        let rewrite = |node: LogicalPlan| match node {
            LogicalPlan::Subquery(subquery) => Ok(names.apart(subquery)?.update_data(LogicalPlan::Subquery)),
            node => Ok(Transformed::no(node)),
        };
        plan.transform_up_with_subqueries(rewrite).data()
    }
}

/// The names that were given.
struct Names(Cell<usize>);

impl Names {
    fn apart(&self, subquery: Subquery) -> Result<Transformed<Subquery>> {
        if subquery.outer_ref_columns.is_empty() || !have_names_in_common(&subquery.subquery)? {
            return Ok(Transformed::no(subquery));
        }
        let plan = subquery.subquery.as_ref().clone().transform_up(|node| match node {
            LogicalPlan::Filter(filter) if filter.predicate.contains_outer() => self.renamed(filter),
            node => Ok(Transformed::no(node)),
        })?;
        Ok(Transformed::yes(Subquery { subquery: Arc::new(plan.data), ..subquery }))
    }

    /// The filter over copies of the columns that meet the row around, and then without them.
    fn renamed(&self, filter: Filter) -> Result<Transformed<LogicalPlan>> {
        let own: Vec<Expr> = filter.input.schema().columns().into_iter().map(Expr::Column).collect();
        let mut copies: BTreeMap<Column, String> = BTreeMap::new();
        let mut conditions = Vec::new();
        for condition in split_conjunction_owned(filter.predicate) {
            let renamed = |inner: Expr| {
                let Expr::Column(column) = inner else { return Ok(Transformed::no(inner)) };
                let name = copies.entry(column).or_insert_with(|| {
                    self.0.set(self.0.get() + 1);
                    format!("__met_{}", self.0.get())
                });
                Ok(Transformed::yes(Expr::Column(Column::new_unqualified(name.clone()))))
            };
            conditions.push(if condition.contains_outer() { condition.transform_up(renamed)?.data } else { condition });
        }
        let copies = copies.into_iter().map(|(column, name)| Expr::Column(column).alias(name));
        let with_copies = Projection::try_new(own.iter().cloned().chain(copies).collect(), filter.input)?;
        let condition = conjunction(conditions).expect("a filter has a condition");
        let filter = Filter::try_new(condition, Arc::new(LogicalPlan::Projection(with_copies)))?;
        let without = Projection::try_new(own, Arc::new(LogicalPlan::Filter(filter)))?;
        Ok(Transformed::yes(LogicalPlan::Projection(without)))
    }
}

/// Whether two columns are called alike among those that meet the row around and those that the subquery selects.
fn have_names_in_common(plan: &LogicalPlan) -> Result<bool> {
    let mut known: BTreeSet<(String, Option<TableReference>)> = BTreeSet::new();
    let mut note = |column: &Column| {
        known.insert((column.name.clone(), column.relation.clone()));
    };
    plan.schema().columns().iter().for_each(&mut note);
    plan.apply(|node| {
        if let LogicalPlan::Filter(filter) = node {
            for condition in split_conjunction(&filter.predicate) {
                if condition.contains_outer() {
                    condition.column_refs().into_iter().for_each(&mut note);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let names: BTreeSet<&String> = known.iter().map(|(name, _)| name).collect();
    Ok(names.len() < known.len())
}
