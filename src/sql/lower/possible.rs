//! Expressions that fail whatever the rows are: an operator that is not there, a part of a time that has no name.
//!
//! DataFusion looks at such constants when it evaluates. Evaluated on no rows, whatever fails would fail for each.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::sql::program::{PANICKED, evaluate};
use crate::sql::refusal::{Objection, Place};

const EXTRACT: &[&str] = &["extract", "date_part"];

const UNKNOWN_OPERATOR: &str =
    "is not supported; there are -> and ->> for JSON, ~ for regular expressions, and those of arithmetic";

/// Refuses an expression of which a part can never be evaluated.
pub(super) fn check(physical: &Arc<dyn PhysicalExpr>, rows: &Schema) -> Result<(), Objection> {
    let nothing = RecordBatch::new_empty(Arc::new(rows.clone()));
    let mut found = None;
    physical.apply(|inner| {
        let Some(name) = name(inner).filter(|_| has_column(inner)) else { return Ok(TreeNodeRecursion::Continue) };
        // A constant that fails may stand where no row ever comes.
        if inner.children().into_iter().any(|child| evaluate(child, &nothing).is_err()) {
            return Ok(TreeNodeRecursion::Continue);
        }
        match evaluate(inner, &nothing) {
            Err(failed) if failed.reason != PANICKED => {
                found = Some((name, failed.reason));
                Ok(TreeNodeRecursion::Stop)
            }
            _ => Ok(TreeNodeRecursion::Continue),
        }
    })?;
    let Some((name, reason)) = found else { return Ok(()) };
    let (construct, place) = match name {
        // As it is written, which is not how it is called.
        Name::Function(name) if name == "date_part" => ("extract()".to_owned(), Place::Nearest(EXTRACT, None)),
        Name::Function(name) => (format!("function {name}()"), Place::Word(name)),
        Name::Operator(name) => (format!("operator {name}"), Place::Word(name.to_string())),
    };
    let message = match reason.contains("is not supported in the physical expr") {
        true => UNKNOWN_OPERATOR.to_owned(),
        false => format!("fails for every row: {reason}; write another one"),
    };
    Err(Objection::new(place, construct, message))
}

/// What is called, where that may be with constants that it does not take.
enum Name {
    Function(String),
    Operator(Operator),
}

fn name(expression: &Arc<dyn PhysicalExpr>) -> Option<Name> {
    if let Some(function) = expression.downcast_ref::<ScalarFunctionExpr>() {
        return Some(Name::Function(function.name().to_owned()));
    }
    let operator = *expression.downcast_ref::<BinaryExpr>()?.op();
    let is_plain = operator.is_logic_operator() || operator.is_numerical_operators();
    (!is_plain).then_some(Name::Operator(operator))
}

fn has_column(expression: &Arc<dyn PhysicalExpr>) -> bool {
    expression.exists(|inner| Ok(inner.downcast_ref::<Column>().is_some())).expect("nothing fails")
}
