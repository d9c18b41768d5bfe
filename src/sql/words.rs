//! Expressions, columns and plans in the words of whoever wrote the query, for people.
//!
//! DataFusion writes `count(*)` as a count of ones, and rules of ours make functions of operators; here they are as they
//! were written.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{LogicalPlan, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::physical_expr::fmt_sql;

use super::functions::arithmetic;
use super::functions::bounded::CONCATENATION;
use super::functions::opaque::OPAQUE;
use super::rules::lengths;

/// No more of a constant is shown: a query may say `repeat('x', 1000000)`, and every row that fails tells its expression.
const LETTERS_MAX: usize = 100;
/// What begins the name of a column that the query does not name.
const MADE: &str = "__made_";
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
    if let Some(quoted) = expression.downcast_ref::<Literal>().and_then(quoted) {
        return Transformed::yes(Arc::new(quoted));
    }
    match expression.downcast_ref::<ScalarFunctionExpr>().map(|function| (function.name(), function.args())) {
        Some((CONCATENATION, [left, right])) => {
            let operator = BinaryExpr::new(Arc::clone(left), Operator::StringConcat, Arc::clone(right));
            Transformed::yes(Arc::new(operator))
        }
        Some((OPAQUE, [inner, ..])) => Transformed::yes(Arc::clone(inner)),
        Some((name, [left, right])) if let Some(operator) = arithmetic::operator(name) => {
            Transformed::yes(Arc::new(BinaryExpr::new(Arc::clone(left), operator, Arc::clone(right))))
        }
        _ => Transformed::no(expression),
    }
}

/// A text in quotes; of a long one the beginning.
fn quoted(constant: &Literal) -> Option<Literal> {
    let text = constant.value().try_as_str().flatten()?;
    let shown = match text.char_indices().nth(LETTERS_MAX) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    };
    Some(Literal::new(ScalarValue::from(format!("'{}'", shown.replace('\'', "''")))))
}

/// An expression as SQL, over columns some of which may have one name.
pub(super) fn sql_over(expression: &Arc<dyn PhysicalExpr>, columns: &SchemaRef) -> String {
    let renamed = renamed(columns);
    let named = Arc::clone(expression).transform_down(|inner| {
        let column = inner.downcast_ref::<Column>().map(Column::index).filter(|place| *place < columns.fields().len());
        let twice = column.filter(|place| *renamed.field(*place).name() != name(columns.field(*place).name()));
        Ok(match twice {
            Some(place) => {
                let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(renamed.field(place).name(), place));
                Transformed::new(column, true, TreeNodeRecursion::Jump)
            }
            None => Transformed::no(inner),
        })
    });
    sql(&named.data().expect("nothing fails"))
}

/// The name of a column that DataFusion names after what it is made of, or a text with such names; without what tells
/// names of ours apart.
pub(super) fn name(text: &str) -> String {
    let mut parts = text.split(MADE);
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|letter: char| letter.is_ascii_digit());
        name.push_str(rest.strip_prefix('_').unwrap_or(rest));
    }
    name.replace(COUNT_OF_ONES, COUNT)
}

/// The name of a column that the query does not name, or names as another one is called: a number that no other such
/// column has, and what it is.
pub(super) fn made_name(number: usize, what: &str) -> String {
    let what: String = what.chars().take(LETTERS_MAX).collect();
    format!("{MADE}{number}_{what}")
}

/// Whether nobody wrote it.
pub(super) fn is_made_name(name: &str) -> bool {
    name.starts_with(MADE)
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

/// The columns under the names that they have for people, each its own: of two sides of a join the second `a` is `a_2`.
pub(super) fn renamed(columns: &Schema) -> SchemaRef {
    let mut seen = BTreeSet::new();
    let fields = columns.fields().iter().map(|field| {
        let first = name(field.name());
        let others = (2..).map(|number| format!("{first}_{number}"));
        let mut names = std::iter::once(first.clone()).chain(others);
        let own = names.find(|name| seen.insert(name.clone())).expect("there are more than columns");
        field.as_ref().clone().with_name(own)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn columns_of_one_name_are_told_apart_and_texts_stand_in_quotes() {
        let field = |name: &str| Field::new(name, DataType::Utf8, true);
        let columns = Arc::new(Schema::new(vec![field("a"), field("b"), field("a"), field("a_2")]));
        let names: Vec<String> = renamed(&columns).fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["a", "b", "a_2", "a_2_2"]);
        let column = |place: usize| Arc::new(Column::new(columns.field(place).name(), place)) as Arc<dyn PhysicalExpr>;
        let both: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(column(0), Operator::Eq, column(2)));
        assert_eq!(sql_over(&both, &columns), "a = a_2");
        let text = Arc::new(Literal::new(ScalarValue::from("it's")));
        let text: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(column(1), Operator::Eq, text));
        assert_eq!(sql_over(&text, &columns), "b = 'it''s'");
        let made = made_name(12, "lower(a)");
        assert!(is_made_name(&made) && !is_made_name("lower(a)"));
        assert_eq!(name(&format!("x.{made} = {}", made_name(3, "b"))), "x.lower(a) = b");
    }
}
