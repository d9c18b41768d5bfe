//! Columns of a subquery stay what they are when it becomes a join.
//!
//! What meets the row around (`p.id = g.id`, of which `g` is around) leaves the subquery for the condition of that join, and
//! its columns go along, under the name of the subquery: `p.id` and `h.id` would both be `id` of it then, and a column of the
//! subquery that is called as one of the row around is taken for that. So what meets the row around, and what a subquery
//! selects, gets a name of its own. That an expression has one (`lower(p.id) = g.id`) makes it a column too, which is all
//! that DataFusion takes out of an aggregate.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, JoinType, LogicalPlan, Operator, Projection};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite_expressions;
use crate::sql::refusal::{Objection, Place};
use crate::sql::subquery::{has_subquery, outer_column};
use crate::sql::words;

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
            node => rewrite_expressions(node, |expression| expression.transform_up(|inner| names.named(inner))),
        };
        plan.transform_up_with_subqueries(rewrite).data()
    }
}

/// The names that were given.
struct Names(Cell<usize>);

impl Names {
    /// A name that nothing else has and that tells people what is called so.
    fn next(&self, expression: &Expr) -> String {
        self.0.set(self.0.get() + 1);
        let number = self.0.get();
        match expression {
            Expr::Column(column) => words::made_name(number, &column.name),
            expression => words::made_name(number, &expression.schema_name().to_string()),
        }
    }

    /// A subquery in an expression with names for its columns.
    fn named(&self, expression: Expr) -> Result<Transformed<Expr>> {
        let renamed = |subquery: Subquery| {
            let Subquery { subquery, outer_ref_columns, spans } = subquery;
            let columns = subquery.schema().columns().into_iter().map(Expr::Column);
            let columns = columns.map(|column| (self.next(&column), column)).map(|(name, column)| column.alias(name));
            let columns = columns.collect();
            let subquery = Arc::new(LogicalPlan::Projection(Projection::try_new(columns, subquery)?));
            Ok::<_, DataFusionError>(Subquery { subquery, outer_ref_columns, spans })
        };
        Ok(Transformed::yes(match expression {
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                Expr::InSubquery(InSubquery { expr, subquery: renamed(subquery)?, negated })
            }
            Expr::Exists(Exists { subquery, negated }) => {
                Expr::Exists(Exists { subquery: renamed(subquery)?, negated })
            }
            Expr::ScalarSubquery(subquery) => Expr::ScalarSubquery(renamed(subquery)?),
            expression => return Ok(Transformed::no(expression)),
        }))
    }

    fn apart(&self, subquery: Subquery) -> Result<Transformed<Subquery>> {
        let outer: Vec<Column> = subquery.outer_ref_columns.iter().filter_map(outer_column).cloned().collect();
        if outer.is_empty() {
            return Ok(Transformed::no(subquery));
        }
        check_outer_joins(&subquery.subquery)?;
        let must = have_names_in_common(&subquery.subquery, &outer)?;
        let plan = self.within(subquery.subquery.as_ref().clone(), &outer, true, must)?;
        Ok(Transformed::yes(Subquery { subquery: Arc::new(plan), ..subquery }))
    }

    /// The same with what meets the row around renamed in all filters of which new columns come out at the top, or in all.
    fn within(&self, plan: LogicalPlan, outer: &[Column], comes_out: bool, must: bool) -> Result<LogicalPlan> {
        let passes = match &plan {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => true,
            // Others group by what they are found by, under its own name.
            LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
            _ => false,
        };
        let inside = |child| self.within(child, outer, comes_out && passes, must).map(Transformed::yes);
        match plan.map_children(inside).data()? {
            LogicalPlan::Filter(filter) if (comes_out || must) && filter.predicate.contains_outer() => {
                self.renamed(filter, outer).data()
            }
            plan => Ok(plan),
        }
    }

    /// The filter over what meets the row around under other names, and then without these.
    fn renamed(&self, filter: Filter, outer: &[Column]) -> Result<Transformed<LogicalPlan>> {
        let conditions = split_conjunction_owned(filter.predicate);
        let (meeting, own): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(Expr::contains_outer);
        let input = match conjunction(own) {
            Some(own) => Arc::new(LogicalPlan::Filter(Filter::try_new(own, filter.input)?)),
            None => filter.input,
        };
        let mut met = Met { names: self, known: Vec::new() };
        let (mut below, mut above) = (Vec::new(), Vec::new());
        for column in input.schema().columns() {
            if outer.iter().any(|outer| is_taken_for(outer, &column)) {
                check_is_met_alone(&column, &meeting)?;
                let Expr::Column(hidden) = met.column(Expr::Column(column.clone())) else { unreachable!("a column") };
                above.push(Expr::Column(hidden).alias_qualified(column.relation, column.name));
            } else {
                below.push(Expr::Column(column.clone()));
                above.push(Expr::Column(column));
            }
        }
        let condition = meeting.into_iter().map(|condition| met.condition(condition)).collect::<Result<Vec<_>>>()?;
        let condition = conjunction(condition).expect("a filter has a condition");
        below.extend(met.known.into_iter().map(|(expression, name)| expression.alias(name)));
        let below = LogicalPlan::Projection(Projection::try_new(below, input)?);
        let filter = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(below))?);
        Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(above, Arc::new(filter))?)))
    }
}

/// What meets the row around, and what it is called.
struct Met<'a> {
    names: &'a Names,
    known: Vec<(Expr, String)>,
}

impl Met<'_> {
    /// The column that holds an expression.
    fn column(&mut self, expression: Expr) -> Expr {
        let known = self.known.iter().find(|(known, _)| *known == expression);
        let name = known.map(|(_, name)| name.clone()).unwrap_or_else(|| {
            let name = self.names.next(&expression);
            self.known.push((expression, name.clone()));
            name
        });
        Expr::Column(Column::new_unqualified(name))
    }

    /// A condition that names these columns alone, and those of the row around.
    fn condition(&mut self, condition: Expr) -> Result<Expr> {
        if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition {
            let mut side = |side: Expr| match side.any_column_refs() && !side.contains_outer() && !has_subquery(&side) {
                true => Ok(self.column(side)),
                false => self.renamed(side),
            };
            let (left, right) = (side(*left)?, side(*right)?);
            return Ok(left.eq(right));
        }
        self.renamed(condition)
    }

    fn renamed(&mut self, condition: Expr) -> Result<Expr> {
        let rename = |inner: Expr| match inner {
            Expr::Column(_) => Ok(Transformed::yes(self.column(inner))),
            inner => Ok(Transformed::no(inner)),
        };
        condition.transform_up(rename).data()
    }
}

/// Whether two columns are called alike among those that meet the row around and those that the subquery selects, or one of
/// them is taken for one of the row around.
fn have_names_in_common(plan: &LogicalPlan, outer: &[Column]) -> Result<bool> {
    let mut known: BTreeSet<Column> = plan.schema().columns().into_iter().collect();
    plan.apply(|node| {
        if let LogicalPlan::Filter(filter) = node {
            let conditions = split_conjunction(&filter.predicate).into_iter();
            let meeting = conditions.filter(|condition| condition.contains_outer());
            known.extend(meeting.flat_map(Expr::column_refs).cloned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let names: BTreeSet<&str> = known.iter().map(|column| column.name.as_str()).collect();
    let is_taken = known.iter().any(|own| outer.iter().any(|outer| is_taken_for(outer, own)));
    Ok(names.len() < known.len() || is_taken)
}

/// Whether a column of the row around is taken for one of the subquery.
fn is_taken_for(outer: &Column, own: &Column) -> bool {
    outer.name == own.name && (outer.relation.is_none() || outer.relation == own.relation)
}

/// The condition would leave an outer join for that with the row around, as if rows that it does not fit were not there.
fn check_outer_joins(plan: &LogicalPlan) -> Result<()> {
    plan.apply(|node| {
        let join = match node {
            LogicalPlan::Join(join) if matches!(join.join_type, JoinType::Left | JoinType::Right | JoinType::Full) => join,
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        let keys = join.on.iter().flat_map(|(left, right)| [left, right]);
        match keys.chain(&join.filter).find(|condition| condition.contains_outer()) {
            Some(condition) => {
                let message = "names the row around the subquery in an outer join, whose rows are there without it too; \
                               write a join with a subquery in FROM, with GROUP BY";
                Err(Objection::new(Place::of(condition), "ON in a subquery", message).into_error())
            }
            None => Ok(TreeNodeRecursion::Continue),
        }
    })?;
    Ok(())
}

/// A subquery in the condition itself would still name the column as it was called.
fn check_is_met_alone(column: &Column, conditions: &[Expr]) -> Result<()> {
    if conditions.iter().any(has_subquery) {
        let message = "the row around has such a column too; give it another name with AS in a subquery in FROM";
        return Err(Objection::new(Place::Query, format!("column {column}"), message).into_error());
    }
    Ok(())
}
