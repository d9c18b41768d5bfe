//! `x IN (SELECT ..)` as a part of a condition: what is not known stays so.
//!
//! `IN` and `NOT IN` that are conditions by themselves are right as DataFusion has them. Where one stands under `OR`, `NOT`
//! or in another expression, DataFusion looks whether the value is found, and takes what is not known (the value is null,
//! or a null is among those looked in) for false. That makes no difference where more found rows only ever make the whole
//! condition more true; elsewhere it would let rows in that SQL leaves out, so there it is said when it is not known.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::utils::disjunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Projection,
};
use datafusion::optimizer::AnalyzerRule;

/// The column that is looked in. Without a name of its own the optimizer may take it for two.
const FOUND: &str = "found";

/// Says when it is not known whether a value is among others.
#[derive(Debug)]
pub(super) struct Rule;

/// Where in a condition something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It is a condition by itself.
    Alone,
    /// The more it is true, the more the whole is.
    Rising,
    /// The less it is true, the more the whole is.
    Falling,
    /// Anywhere else.
    Within,
}

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "memberships"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewrite = |node| match node {
            LogicalPlan::Filter(Filter { predicate, input, .. }) => {
                let predicate = rewritten(predicate, Stand::Alone, input.schema())?;
                Ok(predicate
                    .update_data(|predicate| (predicate, input))
                    .map_data(|(predicate, input)| Ok(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))?)
            }
            node => Ok(Transformed::no(node)),
        };
        plan.transform_up_with_subqueries(rewrite).data()
    }
}

impl Stand {
    /// Where one side of an `OR` stands.
    fn beside(self) -> Self {
        if self == Self::Alone { Self::Rising } else { self }
    }

    fn denied(self) -> Self {
        match self {
            Self::Alone | Self::Rising => Self::Falling,
            Self::Falling => Self::Rising,
            Self::Within => Self::Within,
        }
    }
}

fn rewritten(expression: Expr, stand: Stand, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expression {
        Expr::InSubquery(found) => match (stand, found.negated) {
            (Stand::Alone, _) => Ok(Transformed::no(Expr::InSubquery(found))),
            (Stand::Rising, false) | (Stand::Falling, true) => {
                let negated = found.negated;
                membership(found).map(|found| Transformed::yes(if negated { !found } else { found }))
            }
            _ => with_unknown(found, schema).map(Transformed::yes),
        },
        Expr::Not(denied) if stand == Stand::Alone && matches!(*denied, Expr::InSubquery(_)) => {
            Ok(Transformed::no(Expr::Not(denied)))
        }
        Expr::Not(denied) => {
            let denied = rewritten(*denied, stand.denied(), schema)?;
            Ok(denied.update_data(|denied| Expr::Not(Box::new(denied))))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let stand = if op == Operator::And { stand } else { stand.beside() };
            let (left, right) = (rewritten(*left, stand, schema)?, rewritten(*right, stand, schema)?);
            let transformed = left.transformed || right.transformed;
            let whole = BinaryExpr::new(Box::new(left.data), op, Box::new(right.data));
            Ok(Transformed::new_transformed(Expr::BinaryExpr(whole), transformed))
        }
        expression => expression.map_children(|inner| rewritten(inner, Stand::Within, schema)),
    }
}

/// Whether the value is found; false where that is not known.
fn membership(found: InSubquery) -> Result<Expr> {
    let InSubquery { expr, subquery: Subquery { subquery, outer_ref_columns, spans }, .. } = found;
    let columns = subquery.schema().columns().into_iter();
    let columns = columns.map(|column| Expr::Column(column).alias(FOUND)).collect();
    let subquery = Arc::new(LogicalPlan::Projection(Projection::try_new(columns, subquery)?));
    Ok(Expr::InSubquery(InSubquery::new(expr, Subquery { subquery, outer_ref_columns, spans }, false)))
}

/// The same, but null where that is not known.
fn with_unknown(found: InSubquery, schema: &DFSchema) -> Result<Expr> {
    let exists = |plan: Arc<LogicalPlan>| {
        let subquery = Subquery { subquery: plan, ..found.subquery.clone() };
        Expr::Exists(Exists::new(subquery, false))
    };
    let (plan, mut unknown) = (&found.subquery.subquery, Vec::new());
    for (column, field) in plan.schema().columns().into_iter().zip(plan.schema().fields()) {
        if field.is_nullable() {
            let nulls = LogicalPlanBuilder::from(Arc::clone(plan)).filter(Expr::Column(column).is_null())?;
            unknown.push(exists(Arc::new(nulls.build()?)));
        }
    }
    if found.expr.nullable(schema)? {
        unknown.push(found.expr.clone().is_null().and(exists(Arc::clone(plan))));
    }
    let negated = found.negated;
    let is_found = membership(found)?;
    let whole = match disjunction(unknown) {
        Some(unknown) => is_found.or(unknown.and(Expr::Literal(ScalarValue::Boolean(None), None))),
        None => is_found,
    };
    Ok(if negated { !whole } else { whole })
}
