//! One instant as tables for DataFusion: what a query reads, slice by slice, as it asks for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures_util::stream;

use super::row::Row;
use super::table::{Columns, Resource, Table, TableKind};
use super::view_plan::ViewPlan;
use crate::model::{QuarantineEntry, ResourceId, State};

/// So many rows are read at a time.
const SLICE_ROWS: usize = 4096;

/// What can be read of one instant, from any thread. Resources and rows come in parts that together are everything.
pub trait Instant: Send + Sync + 'static {
    /// In how many parts resources are held.
    fn parts(&self) -> usize;

    /// The first `count` resources of a part after an id, in order of id, deleted ones included.
    fn resources(&self, part: usize, after: Option<ResourceId>, count: usize) -> Vec<(Arc<State>, Option<ResourceId>)>;

    /// The quarantine.
    fn rejects(&self) -> Vec<Arc<QuarantineEntry>>;

    /// The first `count` rows of a view after a row, as stored and in order, each with how often it is there.
    fn rows(&self, view: &str, after: Option<&Row>, count: usize) -> Vec<(Row, usize)>;
}

/// What a query read that is worth telling.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Rows that could not be read: a value of another type than declared.
    pub(super) failures: AtomicU64,
}

/// What a table or a view is read from.
#[derive(Clone)]
pub(super) enum Relation {
    Table(Arc<Table>),
    View(Arc<ViewPlan>),
}

impl Relation {
    fn schema(&self) -> SchemaRef {
        match self {
            Self::Table(table) => Arc::clone(&table.schema),
            Self::View(plan) => plan.selected_schema(),
        }
    }
}

/// A table or a view at an instant.
pub(super) struct AtInstant {
    pub(super) relation: Relation,
    pub(super) instant: Arc<dyn Instant>,
    pub(super) read: Arc<Read>,
}

impl fmt::Debug for AtInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtInstant")
    }
}

#[async_trait]
impl TableProvider for AtInstant {
    fn schema(&self) -> SchemaRef {
        self.relation.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let columns = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let projected = Arc::new(schema.project(&columns)?);
        let parts = match &self.relation {
            Relation::Table(table) if table.kind != TableKind::Quarantine => self.instant.parts().max(1),
            _ => 1,
        };
        let part = |part| {
            Arc::new(Part {
                relation: self.relation.clone(),
                instant: Arc::clone(&self.instant),
                read: Arc::clone(&self.read),
                schema: Arc::clone(&projected),
                columns: columns.clone(),
                part,
            }) as Arc<dyn PartitionStream>
        };
        let plan = StreamingTableExec::try_new(
            Arc::clone(&projected),
            (0..parts).map(part).collect(),
            None,
            [],
            false,
            limit,
        )?;
        Ok(Arc::new(plan))
    }
}

/// A part of a table at an instant.
#[derive(Clone)]
struct Part {
    relation: Relation,
    instant: Arc<dyn Instant>,
    read: Arc<Read>,
    schema: SchemaRef,
    columns: Vec<usize>,
    part: usize,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part {}", self.part)
    }
}

/// How far a part was read.
#[derive(Clone)]
enum Reached {
    Start,
    Resource(ResourceId),
    Row(Row),
    End,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let part = self.clone();
        let batches = stream::unfold((part, Reached::Start), |(part, reached)| async move {
            let (batch, reached) = part.next(reached)?;
            Some((Ok(batch), (part, reached)))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

impl Part {
    /// The next slice, and how far it reaches.
    fn next(&self, reached: Reached) -> Option<(RecordBatch, Reached)> {
        match &self.relation {
            Relation::Table(table) if table.kind == TableKind::Quarantine => {
                let Reached::Start = reached else { return None };
                let rejects = self.instant.rejects();
                let rejects: Vec<&QuarantineEntry> = rejects.iter().map(|entry| &**entry).collect();
                Some((self.taken(table.of_rejects(&self.columns, &rejects)), Reached::End))
            }
            Relation::Table(table) => {
                let after = match reached {
                    Reached::Start => None,
                    Reached::Resource(id) => Some(id),
                    Reached::Row(_) | Reached::End => return None,
                };
                let states = self.instant.resources(self.part, after, SLICE_ROWS);
                let last = states.last()?.0.id;
                let resources = states.iter().map(|(state, orphaned_by)| Resource { state, orphaned_by: *orphaned_by });
                let held: Vec<Resource<'_>> = resources.filter(|resource| table.holds(*resource)).collect();
                Some((self.taken(table.of_resources(&self.columns, &held)), Reached::Resource(last)))
            }
            Relation::View(plan) => {
                let after = match &reached {
                    Reached::Start => None,
                    Reached::Row(row) => Some(row),
                    Reached::Resource(_) | Reached::End => return None,
                };
                let rows = self.instant.rows(&plan.name, after, SLICE_ROWS);
                let last = rows.last()?.0.clone();
                let each: Vec<&Row> = rows.iter().flat_map(|(row, count)| std::iter::repeat_n(row, *count)).collect();
                let batch = plan.selected(&plan.codec.decode(each.into_iter()));
                Some((batch.project(&self.columns).expect("columns of the view"), Reached::Row(last)))
            }
        }
    }

    fn taken(&self, columns: Columns) -> RecordBatch {
        self.read.failures.fetch_add(columns.failures.len() as u64, Ordering::Relaxed);
        columns.batch
    }
}
