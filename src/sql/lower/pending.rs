//! Filters and projections that wait to become one program.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};

use super::relation;
use crate::sql::program::Program;
use crate::sql::relation::{Operator, Relation};
use crate::sql::row::Codec;
use crate::sql::table::Table;
use crate::sql::view_plan::ViewPlan;

/// What rows are made of.
enum Source {
    /// Rows of a relation, in this codec.
    Relation(Arc<Relation>, Codec),
    /// These columns of a table.
    Table(Arc<Table>, Vec<usize>),
}

/// Rows that are yet to be filtered and made of what they come from.
pub(in crate::sql) struct Pending {
    source: Source,
    filters: Vec<Arc<dyn PhysicalExpr>>,
    outputs: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl Pending {
    /// The rows of a relation.
    pub(super) fn of(relation: Arc<Relation>) -> Self {
        let schema = Arc::clone(&relation.schema);
        let codec = Codec::new(Arc::clone(&schema));
        Self { source: Source::Relation(relation, codec), filters: Vec::new(), outputs: all(&schema), schema }
    }

    /// These columns of a table, in any order.
    pub(super) fn table(table: Arc<Table>, places: &[usize], schema: &SchemaRef) -> Self {
        let mut columns = places.to_vec();
        columns.sort_unstable();
        columns.dedup();
        let place = |place: &usize| {
            let at = columns.binary_search(place).expect("one of these columns");
            column(table.schema.field(*place).name(), at)
        };
        let outputs = places.iter().map(place).collect();
        Self { source: Source::Table(table, columns), filters: Vec::new(), outputs, schema: Arc::clone(schema) }
    }

    /// The rows of another view, as stored.
    pub(super) fn view(plan: &ViewPlan) -> Self {
        let schema = Arc::clone(plan.codec.schema());
        let (view, description) = (Arc::clone(&plan.name), format!("view {} {:?}", plan.name, plan.fingerprint));
        let relation = relation(&description, Arc::clone(&schema), Vec::new(), |_| Operator::View { view });
        let source = Source::Relation(relation, plan.codec.clone());
        Self { source, filters: Vec::new(), outputs: all(&schema), schema }
    }

    /// Some of the columns.
    pub(super) fn columns(self, places: &[usize], schema: &SchemaRef) -> Self {
        let outputs = places.iter().map(|place| Arc::clone(&self.outputs[*place])).collect();
        Self { outputs, schema: Arc::clone(schema), ..self }
    }

    /// Rows for which these are true, in this order: one that is false spares the others.
    pub(super) fn filter(self, filters: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        if filters.is_empty() {
            return self;
        }
        let mut here = self.simple();
        let outputs = here.outputs.clone();
        here.filters.extend(filters.into_iter().map(|filter| over(filter, &outputs)));
        here
    }

    /// Other columns.
    pub(super) fn project(self, expressions: Vec<Arc<dyn PhysicalExpr>>, schema: &SchemaRef) -> Self {
        let is_choice = expressions.iter().all(is_simple);
        let here = if is_choice { self } else { self.simple() };
        let outputs = expressions.into_iter().map(|expression| over(expression, &here.outputs)).collect();
        Self { outputs, schema: Arc::clone(schema), ..here }
    }

    /// The same with nothing computed that expressions above could compute twice, or fail at in another order.
    fn simple(self) -> Self {
        if self.outputs.iter().all(is_simple) { self } else { Self::of(self.relation()) }
    }

    /// A relation, and what is made of its rows: nothing but a choice of columns.
    pub(super) fn choice(self) -> (Arc<Relation>, Vec<Arc<dyn PhysicalExpr>>) {
        match self {
            Self { source: Source::Relation(input, codec), filters, outputs, .. }
                if filters.is_empty() && codec.is_default() && outputs.iter().all(is_simple) =>
            {
                (input, outputs)
            }
            pending => {
                let relation = pending.relation();
                let columns = all(&relation.schema);
                (relation, columns)
            }
        }
    }

    /// As a relation.
    pub(super) fn relation(self) -> Arc<Relation> {
        let Self { source, filters, outputs, schema } = self;
        match source {
            Source::Relation(input, codec) => {
                let is_whole = filters.is_empty() && outputs.len() == input.schema.fields().len();
                let in_order = || {
                    let columns = outputs.iter().map(|output| output.downcast_ref::<Column>().map(Column::index));
                    columns.enumerate().all(|(place, index)| index == Some(place))
                };
                let has_default_codec = codec.is_default();
                if is_whole && in_order() && has_default_codec {
                    return input;
                }
                let program = Arc::new(Program::new(codec, filters, outputs, Codec::new(Arc::clone(&schema))));
                relation(&program.description(), schema, vec![input], |mut inputs| Operator::Apply {
                    input: inputs.remove(0),
                    program,
                })
            }
            Source::Table(table, columns) => {
                let read = Arc::new(table.schema.project(&columns).expect("columns of the table"));
                let output = Codec::new(Arc::clone(&schema));
                let program = Arc::new(Program::new(Codec::new(read), filters, outputs, output));
                let description = format!("table {:?} {columns:?} {}", table.kind, program.description());
                relation(&description, schema, Vec::new(), |_| Operator::Table { table, columns, program })
            }
        }
    }
}

/// All columns, as they are.
pub(super) fn all(schema: &Schema) -> Vec<Arc<dyn PhysicalExpr>> {
    schema.fields().iter().enumerate().map(|(place, field)| column(field.name(), place)).collect()
}

pub(super) fn column(name: &str, place: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, place))
}

/// Whether an expression costs nothing and never fails.
fn is_simple(expression: &Arc<dyn PhysicalExpr>) -> bool {
    expression.downcast_ref::<Column>().is_some() || expression.downcast_ref::<Literal>().is_some()
}

/// An expression over columns that are themselves made by these expressions.
pub(in crate::sql) fn over(expression: Arc<dyn PhysicalExpr>, made: &[Arc<dyn PhysicalExpr>]) -> Arc<dyn PhysicalExpr> {
    let replaced = expression.transform_down(|inner| match inner.downcast_ref::<Column>() {
        // What takes its place is not looked at again: it is over other columns.
        Some(column) => {
            let made = Arc::clone(&made[column.index()]);
            Ok(Transformed::new(made, true, datafusion::common::tree_node::TreeNodeRecursion::Jump))
        }
        None => Ok(Transformed::no(inner)),
    });
    replaced.data().expect("nothing fails")
}
