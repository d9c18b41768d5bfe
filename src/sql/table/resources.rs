//! Columns of resources: one pass over the states for each column that is asked for, and one for all properties together.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int32Array, Int64Array, StringArray, StringBuilder, TimestampNanosecondBuilder,
};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::columns::{Common, ResourceSource};
use super::properties::PropertyReader;
use super::{Resource, TIME_ZONE, Unreadable, nanoseconds, parts};
use crate::model::{EventId, State, Timestamp, Topics};

/// The values of these columns, and which of them are none.
pub(super) fn columns(
    sources: &[&ResourceSource],
    resources: &[Resource<'_>],
    topics: &Topics,
) -> (Vec<ArrayRef>, Vec<Unreadable>) {
    let mut unreadable = Vec::new();
    let properties = sources.iter().enumerate().filter_map(|(column, source)| match source {
        ResourceSource::Property(property) => Some((column, property)),
        ResourceSource::Common(_) => None,
    });
    let mut properties = PropertyReader::read(properties, resources, &mut unreadable).into_iter();
    let arrays = sources.iter().enumerate().map(|(column, source)| match source {
        ResourceSource::Property(_) => properties.next().expect("an array for each property"),
        ResourceSource::Common(common) => {
            Reader { column, resources, unreadable: &mut unreadable }.read(*common, topics)
        }
    });
    (arrays.collect(), unreadable)
}

/// Reads one column.
struct Reader<'a> {
    column: usize,
    resources: &'a [Resource<'a>],
    unreadable: &'a mut Vec<Unreadable>,
}

impl Reader<'_> {
    fn read(self, common: Common, topics: &Topics) -> ArrayRef {
        let resources = self.resources;
        let states = resources.iter().map(|resource| resource.state);
        match common {
            Common::ResourceId => ids(resources.iter().map(|resource| Some(resource.state.id.uuid()))),
            Common::OrphanedBy => ids(resources.iter().map(|resource| Some(resource.orphaned_by?.uuid()))),
            Common::Text(field) => Arc::new(states.map(|state| state.text(field)).collect::<StringArray>()),
            Common::CreatedAt => self.times(parts::created_at),
            Common::UpdatedAt => self.times(parts::updated_at),
            Common::DeletedAt => self.times(parts::deleted_at),
            Common::EventTime => self.times(|state| Some(state.last.time())),
            Common::EventId => event_ids(states),
            Common::Topic => {
                let names = topics.names();
                let names = states.map(|state| {
                    let topic = state.last.coordinates.topic;
                    names.get(topic.index()).cloned().unwrap_or_else(|| topics.name(topic))
                });
                Arc::new(names.map(Some).collect::<StringArray>())
            }
            Common::Partition => Arc::new(states.map(|state| state.last.coordinates.partition).collect::<Int32Array>()),
            Common::Offset => Arc::new(states.map(|state| state.last.coordinates.offset).collect::<Int64Array>()),
        }
    }

    fn times(self, time: impl Fn(&State) -> Option<Timestamp>) -> ArrayRef {
        let mut times = TimestampNanosecondBuilder::with_capacity(self.resources.len()).with_timezone(TIME_ZONE);
        for (place, resource) in self.resources.iter().enumerate() {
            match time(resource.state).map(nanoseconds).transpose() {
                Ok(nanoseconds) => times.append_option(nanoseconds),
                Err(reason) => {
                    times.append_null();
                    self.unreadable.push(Unreadable { place, column: self.column, reason });
                }
            }
        }
        Arc::new(times.finish())
    }
}

/// A room for ids, which are of one length.
fn id_builder(count: usize) -> StringBuilder {
    StringBuilder::with_capacity(count, count * Hyphenated::LENGTH)
}

fn append_id(ids: &mut StringBuilder, id: Option<Uuid>) {
    let mut text = [0; Hyphenated::LENGTH];
    ids.append_option(id.map(|id| &*id.as_hyphenated().encode_lower(&mut text)));
}

fn ids(uuids: impl ExactSizeIterator<Item = Option<Uuid>>) -> ArrayRef {
    let mut ids = id_builder(uuids.len());
    uuids.for_each(|uuid| append_id(&mut ids, uuid));
    Arc::new(ids.finish())
}

fn event_ids<'a>(states: impl ExactSizeIterator<Item = &'a State>) -> ArrayRef {
    let mut ids = id_builder(states.len());
    for state in states {
        match parts::event_id(state) {
            Ok(text) => ids.append_value(text),
            Err(id) => append_id(&mut ids, id.map(EventId::uuid)),
        }
    }
    Arc::new(ids.finish())
}
