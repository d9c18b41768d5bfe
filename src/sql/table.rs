//! The tables that queries read: columns made of states and of rejects.
//!
//! In: resources, rejects, and which columns are asked for. Out: these columns as Arrow arrays, and the entries that could
//! not be read; for a change, whether it touches the asked columns at all ([`Parts`]).
//!
//! | table | its rows |
//! | --- | --- |
//! | `resources` | what is current and live |
//! | `orphaned_resources` | what is live though another id holds its reporter key |
//! | `deleted_resources` | tombstones, as long as they are remembered |
//! | `quarantine` | rejected records, in the words of the HTTP API |
//! | one a resource type | what is current and live of it: the columns of `resources`, then one a property |
//!
//! What is absent is null, what is empty is empty. Texts are `Utf8`, times nanoseconds in [`TIME_ZONE`], which hold the
//! years 1678 to 2261: a row with another time, or with a property that is not as declared, cannot be read by queries that
//! ask for that column, and by no others. What an entry's columns are depends on that entry alone.

mod columns;
mod number;
mod parts;
mod properties;
mod rejects;
mod resources;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::filter;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};

use super::failure::Failure;
use super::kessel_schema::Property;
use crate::model::{Field, QuarantineEntry, ResourceId, State, Timestamp, Topics};
pub(super) use columns::COMMON_NAMES;
use columns::{RejectSource, ResourceSource};
pub use parts::Parts;

/// The zone of all times. An offset, because it is never looked up; sessions should have it too, so that what functions
/// make has the type of the columns that it is compared with.
pub const TIME_ZONE: &str = "+00:00";

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableKind {
    /// `resources`: current and live.
    Resources,
    /// `orphaned_resources`: live, and another id holds their reporter key.
    Orphaned,
    /// `deleted_resources`: tombstones that are remembered.
    Deleted,
    /// `quarantine`: rejected records.
    Quarantine,
    /// Current and live resources of a type, with its columns: `host`, `k8s_cluster`, ...
    Typed(Arc<str>),
}

/// A table.
#[derive(Debug)]
pub struct Table {
    /// What it holds.
    pub kind: TableKind,
    /// Its columns.
    pub schema: SchemaRef,
    sources: Sources,
    topics: Topics,
}

/// Where its columns come from, in their order.
#[derive(Debug)]
enum Sources {
    Resources(Vec<ResourceSource>),
    Rejects(Vec<RejectSource>),
}

/// A resource as tables see it.
#[derive(Debug, Clone, Copy)]
pub struct Resource<'a> {
    /// Its state.
    pub state: &'a State,
    /// Who took its place, if it is an orphan.
    pub orphaned_by: Option<ResourceId>,
}

/// Columns of some entries.
#[derive(Debug)]
pub struct Columns {
    /// A row for each entry that could be read.
    pub batch: RecordBatch,
    /// Which entries these are, in order.
    pub places: Vec<usize>,
    /// The entries that could not: a value of another type than declared.
    pub failures: Vec<(usize, Failure)>,
}

/// A value that no column can hold.
struct Unreadable {
    /// Which entry's.
    place: usize,
    /// Of which of the asked columns.
    column: usize,
    reason: String,
}

impl TableKind {
    /// The four tables that are always there.
    pub const ALWAYS: [Self; 4] = [Self::Resources, Self::Orphaned, Self::Deleted, Self::Quarantine];

    /// The table's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Resources => "resources",
            Self::Orphaned => "orphaned_resources",
            Self::Deleted => "deleted_resources",
            Self::Quarantine => "quarantine",
            Self::Typed(name) => name,
        }
    }
}

impl Table {
    /// The table of a kind; one of a resource type has a column for each of these properties too.
    pub(super) fn new(kind: TableKind, properties: &[Property], topics: Topics) -> Self {
        let (fields, sources) = match &kind {
            TableKind::Quarantine => columns::of_rejects(),
            kind => columns::of_resources(kind, properties),
        };
        Self { kind, schema: Arc::new(Schema::new(fields)), sources, topics }
    }

    /// Whether a resource stands in it.
    pub fn holds(&self, resource: Resource<'_>) -> bool {
        let Resource { state, orphaned_by } = resource;
        match &self.kind {
            TableKind::Resources => state.is_live() && orphaned_by.is_none(),
            TableKind::Orphaned => state.is_live() && orphaned_by.is_some(),
            TableKind::Deleted => !state.is_live(),
            TableKind::Quarantine => false,
            TableKind::Typed(name) => {
                state.text(Field::ResourceType) == Some(name) && state.is_live() && orphaned_by.is_none()
            }
        }
    }

    /// Where these columns come from.
    pub fn parts(&self, columns: &[usize]) -> Parts {
        match &self.sources {
            Sources::Resources(sources) => {
                columns.iter().map(|&column| sources[column].parts()).fold(Parts::default(), Parts::union)
            }
            Sources::Rejects(_) => Parts::ALL,
        }
    }

    /// These columns, given by their places, of resources that stand in it. Their texts must be less than 2 GiB together.
    pub fn of_resources(&self, columns: &[usize], resources: &[Resource<'_>]) -> Columns {
        let Sources::Resources(sources) = &self.sources else { panic!("the quarantine holds no resources") };
        let sources: Vec<_> = columns.iter().map(|&column| &sources[column]).collect();
        let (arrays, unreadable) = resources::columns(&sources, resources, &self.topics);
        self.finish(columns, arrays, resources.len(), unreadable, |place| {
            format!("{{{}}}", self.key_of_resource(resources[place]))
        })
    }

    /// These columns of rejects; for [`TableKind::Quarantine`] alone.
    pub fn of_rejects(&self, columns: &[usize], rejects: &[&QuarantineEntry]) -> Columns {
        let Sources::Rejects(sources) = &self.sources else { panic!("a table of resources holds no rejects") };
        let sources: Vec<_> = columns.iter().map(|&column| sources[column]).collect();
        let (arrays, unreadable) = rejects::columns(&sources, rejects, &self.topics);
        self.finish(columns, arrays, rejects.len(), unreadable, |place| {
            format!("{{{}}}", self.key_of_reject(rejects[place]))
        })
    }

    /// By what a resource can be found, as a field of a JSON object.
    pub fn key_of_resource(&self, resource: Resource<'_>) -> String {
        format!(r#""resource_id":"{}""#, resource.state.id)
    }

    /// By what a rejected record can be found, likewise.
    pub fn key_of_reject(&self, reject: &QuarantineEntry) -> String {
        format!(r#""id":{}"#, serde_json::Value::String(rejects::id(reject, &self.topics)))
    }

    /// Whether these columns say by what their rows can be found.
    pub fn shows_key(&self, columns: &[usize]) -> bool {
        let key = if self.kind == TableKind::Quarantine { "id" } else { "resource_id" };
        columns.iter().any(|&column| self.schema.field(column).name() == key)
    }

    /// The entries of which every asked column could be read; of the others the first that could not.
    fn finish(
        &self,
        columns: &[usize],
        arrays: Vec<ArrayRef>,
        count: usize,
        mut unreadable: Vec<Unreadable>,
        identity: impl Fn(usize) -> String,
    ) -> Columns {
        let fields = columns.iter().map(|&column| Arc::clone(&self.schema.fields()[column]));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batch = |arrays, count| {
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &options).expect("arrays of the columns")
        };
        if unreadable.is_empty() {
            return Columns { batch: batch(arrays, count), places: (0..count).collect(), failures: Vec::new() };
        }
        unreadable.sort_by_key(|one| (one.place, one.column));
        unreadable.dedup_by_key(|one| one.place);
        let mut read = vec![true; count];
        unreadable.iter().for_each(|one| read[one.place] = false);
        let places: Vec<usize> = (0..count).filter(|&place| read[place]).collect();
        // What is unreadable left a null in its array, which goes with its row.
        let read = BooleanArray::from(read);
        let arrays = arrays.iter().map(|array| filter(array, &read).expect("as many as there are entries"));
        let batch = batch(arrays.collect(), places.len());
        let failures = unreadable.into_iter().map(|one| {
            let expression = schema.field(one.column).name().as_str().into();
            (one.place, Failure { input: identity(one.place).into(), expression, reason: one.reason.into() })
        });
        Columns { batch, places, failures: failures.collect() }
    }
}

/// The type of all columns that are times.
fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(TIME_ZONE.into()))
}

/// A time as its column holds it.
fn nanoseconds(time: Timestamp) -> Result<i64, String> {
    let (seconds, nanoseconds) = time.parts();
    let since_1970 = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    i64::try_from(since_1970).map_err(|_| format!("the time {time} is not within the years 1678 to 2261"))
}
