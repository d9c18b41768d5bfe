//! Floats that SQL holds equal are one key: -0.0 and 0.0, and all that is not a number.
//!
//! Rows are compared by their bytes, which tell them apart, and DataFusion itself does so in some places and not in others.
//! So keys are made canonical where they become keys: `GROUP BY`, `DISTINCT`, `PARTITION BY`, `UNION`, joins and what may
//! become one (`a = b`, `IN (SELECT ..)`). Columns that are only carried along keep their bits.

use std::sync::{Arc, LazyLock};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{InSubquery, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Join, RecursiveQuery, Subquery};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, LogicalPlan, Operator, Projection, ScalarUDF,
};
use datafusion::optimizer::AnalyzerRule;

use super::rewrite_expressions;
use crate::sql::functions::canonical::Canonical;

static CANONICAL: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::from(Canonical::new())));

/// Makes keys canonical.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "floats"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(|node| node_keys(node)?.transform_data(node_expressions))?.data)
    }
}

/// Keys that a node has beside its expressions, or that are some of them.
fn node_keys(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Aggregate(Aggregate { input, group_expr, aggr_expr, .. })
            if has_float(&group_expr, input.schema()) =>
        {
            let keys = named(group_expr, input.schema());
            Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, keys, aggr_expr)?)))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            Ok(columns(&input)?.update_data(|input| LogicalPlan::Distinct(Distinct::All(input))))
        }
        LogicalPlan::RecursiveQuery(mut query) if query.is_distinct => {
            let RecursiveQuery { static_term, recursive_term, .. } = &mut query;
            let (start, step) = (columns(static_term)?, columns(recursive_term)?);
            let transformed = start.transformed || step.transformed;
            (*static_term, *recursive_term) = (start.data, step.data);
            Ok(Transformed::new_transformed(LogicalPlan::RecursiveQuery(query), transformed))
        }
        LogicalPlan::Join(mut join) => {
            let Join { left, right, on, .. } = &mut join;
            let mut transformed = false;
            for (one, other) in on.iter_mut() {
                transformed |= make_canonical(one, left.schema());
                transformed |= make_canonical(other, right.schema());
            }
            Ok(Transformed::new_transformed(LogicalPlan::Join(join), transformed))
        }
        plan => Ok(Transformed::no(plan)),
    }
}

/// The plan with its columns canonical, under their names.
fn columns(plan: &Arc<LogicalPlan>) -> Result<Transformed<Arc<LogicalPlan>>> {
    let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    if !has_float(&columns, plan.schema()) {
        return Ok(Transformed::no(Arc::clone(plan)));
    }
    let projection = Projection::try_new(named(columns, plan.schema()), Arc::clone(plan))?;
    Ok(Transformed::yes(Arc::new(LogicalPlan::Projection(projection))))
}

/// Expressions made canonical, each under the name that it had.
fn named(expressions: Vec<Expr>, schema: &DFSchema) -> Vec<Expr> {
    let names = NamePreserver::new_for_projection();
    let named = expressions.into_iter().map(|mut expression| {
        let name = names.save(&expression);
        make_canonical(&mut expression, schema);
        name.restore(expression)
    });
    named.collect()
}

/// Comparisons that may become keys of a join, and partitions.
fn node_expressions(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    rewrite_expressions(plan, |expression| expression.transform_up(|inner| comparison(inner, &schema)))
}

fn comparison(expression: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expression {
        Expr::BinaryExpr(mut compared)
            if is_equality(compared.op) && varies(&compared.left) && varies(&compared.right) =>
        {
            let BinaryExpr { left, right, .. } = &mut compared;
            let transformed = make_canonical(left, schema) | make_canonical(right, schema);
            Ok(Transformed::new_transformed(Expr::BinaryExpr(compared), transformed))
        }
        Expr::InSubquery(InSubquery { mut expr, subquery, negated }) if is_float(&expr, schema) => {
            let Subquery { subquery, outer_ref_columns, spans } = subquery;
            let subquery = Subquery { subquery: columns(&subquery)?.data, outer_ref_columns, spans };
            make_canonical(&mut expr, schema);
            Ok(Transformed::yes(Expr::InSubquery(InSubquery::new(expr, subquery, negated))))
        }
        Expr::WindowFunction(mut function) => {
            let mut transformed = false;
            for key in &mut function.params.partition_by {
                transformed |= make_canonical(key, schema);
            }
            Ok(Transformed::new_transformed(Expr::WindowFunction(function), transformed))
        }
        expression => Ok(Transformed::no(expression)),
    }
}

fn is_equality(operator: Operator) -> bool {
    matches!(operator, Operator::Eq | Operator::NotEq | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom)
}

/// A comparison with a constant never becomes the key of a join, and is found right by DataFusion.
fn varies(expression: &Expr) -> bool {
    match expression {
        Expr::Literal(..) => false,
        Expr::Cast(cast) => varies(&cast.expr),
        _ => true,
    }
}

fn has_float(expressions: &[Expr], schema: &DFSchema) -> bool {
    expressions.iter().any(|expression| is_float(expression, schema))
}

fn is_float(expression: &Expr, schema: &DFSchema) -> bool {
    !matches!(expression, Expr::GroupingSet(_)) && expression.get_type(schema).is_ok_and(|kind| kind.is_floating())
}

/// Makes the expression canonical if it is a float that is not so yet; whether it did.
fn make_canonical(expression: &mut Expr, schema: &DFSchema) -> bool {
    let is_canonical =
        matches!(&*expression, Expr::ScalarFunction(function) if function.func.inner().is::<Canonical>());
    if is_canonical || !is_float(expression, schema) {
        return false;
    }
    let plain = std::mem::take(expression).unalias();
    *expression = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&CANONICAL), vec![plain]));
    true
}
