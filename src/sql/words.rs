//! Expressions, columns and plans in the words of whoever wrote the query, for people.
//!
//! DataFusion writes `count(*)` as a count of ones, and rules of ours make functions of operators; here they are as they
//! were written.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::{LogicalPlan, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::physical_expr::fmt_sql;

use super::functions::bounded::CONCATENATION;
use super::rules::lengths;

/// No more of a constant is shown: a query may say `repeat('x', 1000000)`, and every row that fails tells its expression.
const LETTERS_MAX: usize = 100;
/// As it is written.
const COUNT: &str = "count(*)";
/// What that becomes.
const COUNT_OF_ONES: &str = "count(Int64(1))";

/// An expression as SQL.
pub(super) fn sql(expression: &Arc<dyn PhysicalExpr>) -> String {
    let written = Arc::clone(expression).transform_up(|inner| Ok(as_written(inner)));
    name(&fmt_sql(written.data().expect("nothing fails").as_ref()).to_string())
}

fn as_written(expression: Arc<dyn PhysicalExpr>) -> Transformed<Arc<dyn PhysicalExpr>> {
    if let Some(shortened) = expression.downcast_ref::<Literal>().and_then(shortened) {
        return Transformed::yes(Arc::new(shortened));
    }
    match expression.downcast_ref::<ScalarFunctionExpr>().map(|function| (function.name(), function.args())) {
        Some((CONCATENATION, [left, right])) => {
            let operator = BinaryExpr::new(Arc::clone(left), Operator::StringConcat, Arc::clone(right));
            Transformed::yes(Arc::new(operator))
        }
        _ => Transformed::no(expression),
    }
}

/// The beginning of a long text.
fn shortened(constant: &Literal) -> Option<Literal> {
    let text = constant.value().try_as_str().flatten()?;
    let (end, _) = text.char_indices().nth(LETTERS_MAX)?;
    Some(Literal::new(ScalarValue::from(format!("{}..", &text[..end]))))
}

/// The name of a column that DataFusion names after what it is made of, or a text with such names.
pub(super) fn name(text: &str) -> String {
    text.replace(COUNT_OF_ONES, COUNT)
}

/// A plan, an operator a line.
pub(super) fn plan(plan: &LogicalPlan) -> String {
    let written = lengths::as_written(plan).unwrap_or_else(|_| plan.clone());
    let text = written.display_indent().to_string();
    name(&text.replace(&format!("{COUNT_OF_ONES} AS {COUNT}"), COUNT))
}

/// The names of all columns.
pub(super) fn names(columns: &Schema) -> String {
    columns.fields().iter().map(|field| name(field.name())).collect::<Vec<_>>().join(", ")
}

/// The columns under the names that they have for people.
pub(super) fn renamed(columns: &Schema) -> SchemaRef {
    let fields = columns.fields().iter().map(|field| field.as_ref().clone().with_name(name(field.name())));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
