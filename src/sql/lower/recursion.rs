//! `WITH RECURSIVE .. UNION ..`: what is reached from the first rows, each row once.
//!
//! Maintained where a row that is there can only ever bring more rows: one reference to what is there so far, and nothing
//! above it that could take a row back (an aggregate, a limit, the missing side of a join).

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::catalog::default_table_source::DefaultTableSource;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, RecursiveQuery, TableScan};

use super::pending::Pending;
use super::{Lowered, Lowering, arrow, relation};
use crate::sql::refusal::{Objection, Place};
use crate::sql::relation::{Keep, Operator, RecursionId, Relation};

impl Lowering<'_> {
    pub(super) fn lower_recursive(&mut self, query: &RecursiveQuery) -> Result<Lowered, Objection> {
        let refused = |message: &str| {
            Objection::new(Place::Word(query.name.clone()), format!("WITH RECURSIVE {}", query.name), message)
        };
        if !query.is_distinct {
            return Err(refused("UNION ALL could go on for ever over the same rows; write UNION"));
        }
        let references = references(&query.recursive_term, &query.name);
        if references != 1 {
            let message = format!("it names itself {references} times; once is maintained");
            return Err(refused(&message));
        }
        let schema = arrow(&query.schema);
        let start = self.lower(&query.static_term)?.relation();
        let id = RecursionId(self.next_recursion);
        self.next_recursion += 1;
        self.recursions.push((query.name.clone(), id));
        let step = self.lower(&query.recursive_term);
        self.recursions.pop();
        let step = step?.relation();
        let kinds =
            |schema: &SchemaRef| -> Vec<_> { schema.fields().iter().map(|field| field.data_type().clone()).collect() };
        if kinds(&start.schema) != kinds(&schema) || kinds(&step.schema) != kinds(&schema) {
            return Err(refused("its two parts have columns of different types; CAST them to the same ones"));
        }
        if let Some(construct) = not_monotone(&step, id) {
            let message = format!("{construct} over the recursion could take rows back; move it out of the recursion");
            return Err(refused(&message));
        }
        let description = format!("recursive {id:?}");
        let relation = relation(&description, schema, vec![start, step], |mut inputs| {
            let step = inputs.pop().expect("two inputs");
            let start = inputs.pop().expect("two inputs");
            Operator::Recursive { id, start, step }
        });
        Ok(Lowered { pending: Pending::of(relation), schema: Arc::clone(&query.schema), at_most_one: false })
    }
}

/// What a recursion has so far.
pub(super) fn reference(id: RecursionId, schema: SchemaRef) -> Arc<Relation> {
    relation(&format!("recursion {id:?}"), schema, Vec::new(), |_| Operator::Recursion { id })
}

/// The name of the recursion that a scan reads; none where it reads a table, whatever its name.
pub(super) fn read_by(scan: &TableScan) -> Option<&str> {
    let source = scan.source.downcast_ref::<DefaultTableSource>()?;
    Some(source.table_provider.downcast_ref::<CteWorkTable>()?.name())
}

/// DataFusion takes a query that names itself in subqueries alone for one that does not name itself.
pub(super) fn named_in_subquery(name: &str) -> Objection {
    let message = "it names itself in a subquery; write a JOIN with it";
    Objection::new(Place::Word(name.to_owned()), format!("WITH RECURSIVE {name}"), message)
}

/// How often a plan reads a recursion.
fn references(plan: &LogicalPlan, name: &str) -> usize {
    let mut count = 0;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            count += usize::from(read_by(scan) == Some(name));
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("nothing fails");
    count
}

fn depends(relation: &Relation, id: RecursionId) -> bool {
    matches!(relation.operator, Operator::Recursion { id: known } if known == id)
        || relation.inputs().into_iter().any(|input| depends(input, id))
}

/// What stands over the recursion and could take rows back, in words.
fn not_monotone(relation: &Relation, id: RecursionId) -> Option<&'static str> {
    if !depends(relation, id) {
        return None;
    }
    match &relation.operator {
        Operator::Reduce { .. } => return Some("an aggregate"),
        Operator::Top { .. } => return Some("a limit"),
        Operator::Temporal { .. } => return Some("a condition on now()"),
        Operator::Semijoin { right, keep: Keep::Others, .. } if depends(&right.input, id) => {
            return Some("a subquery or an outer join that looks for missing rows");
        }
        Operator::Recursive { .. } => return Some("another recursion"),
        _ => {}
    }
    relation.inputs().into_iter().find_map(|input| not_monotone(input, id))
}
