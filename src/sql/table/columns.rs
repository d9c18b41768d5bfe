//! Which columns each table has, in order, and where their values come from.
//!
//! A column that is never null says so: DataFusion plans better for it (`NOT IN`, outer joins).

use datafusion::arrow::datatypes::{DataType, Field as ColumnField};

use super::{Parts, Sources, TableKind, time_type};
use crate::model::Field;
use crate::sql::kessel_schema::{Kinds, Property, PropertyColumn, column_name};

/// Where the values of a resource's column come from.
#[derive(Debug, Clone)]
pub(super) enum ResourceSource {
    Common(Common),
    Property(Property),
}

/// What every resource has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Common {
    ResourceId,
    Text(Field),
    CreatedAt,
    UpdatedAt,
    DeletedAt,
    EventId,
    EventTime,
    Topic,
    Partition,
    Offset,
    OrphanedBy,
}

/// Where the values of a reject's column come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RejectSource {
    Id,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Reason,
    Detail,
    FirstSeen,
    Bytes,
}

/// The columns of a live resource.
const LIVE: [(&str, Common); 17] = [
    ("resource_id", Common::ResourceId),
    ("resource_type", Common::Text(Field::ResourceType)),
    ("workspace_id", Common::Text(Field::WorkspaceId)),
    ("reporter_type", Common::Text(Field::ReporterType)),
    ("reporter_instance_id", Common::Text(Field::ReporterInstanceId)),
    ("local_resource_id", Common::Text(Field::LocalResourceId)),
    ("api_href", Common::Text(Field::ApiHref)),
    ("console_href", Common::Text(Field::ConsoleHref)),
    ("reporter_version", Common::Text(Field::ReporterVersion)),
    ("created_at", Common::CreatedAt),
    ("updated_at", Common::UpdatedAt),
    ("event_id", Common::EventId),
    ("event_time", Common::EventTime),
    ("topic", Common::Topic),
    ("partition", Common::Partition),
    ("offset", Common::Offset),
    ("data", Common::Text(Field::Data)),
];

/// The columns of a tombstone.
const DELETED: [(&str, Common); 8] = [
    ("resource_id", Common::ResourceId),
    ("resource_type", Common::Text(Field::ResourceType)),
    ("reporter_type", Common::Text(Field::ReporterType)),
    ("reporter_instance_id", Common::Text(Field::ReporterInstanceId)),
    ("local_resource_id", Common::Text(Field::LocalResourceId)),
    ("last_workspace_id", Common::Text(Field::WorkspaceId)),
    ("deleted_at", Common::DeletedAt),
    ("event_id", Common::EventId),
];

/// The columns of a reject.
const REJECT: [(&str, RejectSource); 10] = [
    ("id", RejectSource::Id),
    ("topic", RejectSource::Topic),
    ("partition", RejectSource::Partition),
    ("offset", RejectSource::Offset),
    ("timestamp", RejectSource::Timestamp),
    ("key", RejectSource::Key),
    ("reason", RejectSource::Reason),
    ("detail", RejectSource::Detail),
    ("first_seen", RejectSource::FirstSeen),
    ("bytes", RejectSource::Bytes),
];

/// The names of the columns that every table of a resource type has.
pub(in crate::sql) const COMMON_NAMES: [&str; LIVE.len()] = {
    let (mut names, mut place) = ([""; LIVE.len()], 0);
    while place < names.len() {
        names[place] = LIVE[place].0;
        place += 1;
    }
    names
};

/// The columns of a table of resources.
pub(super) fn of_resources(kind: &TableKind, properties: &[Property]) -> (Vec<ColumnField>, Sources) {
    let common: &[(&str, Common)] = if *kind == TableKind::Deleted { &DELETED } else { &LIVE };
    let orphaned = (*kind == TableKind::Orphaned).then_some(("orphaned_by", Common::OrphanedBy));
    let common = common.iter().copied().chain(orphaned);
    let common = common.map(|(name, source)| (name.to_owned(), ResourceSource::Common(source)));
    let properties = properties
        .iter()
        .map(|property| (column_name(&property.name, &COMMON_NAMES), ResourceSource::Property(property.clone())));
    let (names, sources): (Vec<String>, Vec<ResourceSource>) = common.chain(properties).unzip();
    let fields = names.into_iter().zip(&sources).map(|(name, source)| source.column(name));
    (fields.collect(), Sources::Resources(sources))
}

/// The columns of the quarantine.
pub(super) fn of_rejects() -> (Vec<ColumnField>, Sources) {
    let fields =
        REJECT.iter().map(|(name, source)| ColumnField::new(*name, source.kind(), *source == RejectSource::Key));
    (fields.collect(), Sources::Rejects(REJECT.iter().map(|(_, source)| *source).collect()))
}

impl ResourceSource {
    /// Of what part of a state it is made.
    pub(super) fn parts(&self) -> Parts {
        match self {
            Self::Property(_) => Parts::text(Field::Data),
            Self::Common(common) => match common {
                // A resource keeps its id.
                Common::ResourceId => Parts::default(),
                Common::Text(field) => Parts::text(*field),
                Common::CreatedAt => Parts::CREATED_AT,
                Common::UpdatedAt => Parts::UPDATED_AT,
                Common::DeletedAt => Parts::DELETED_AT,
                Common::EventId => Parts::EVENT_ID,
                Common::EventTime => Parts::EVENT_TIME,
                Common::Topic => Parts::TOPIC,
                Common::Partition => Parts::PARTITION,
                Common::Offset => Parts::OFFSET,
                Common::OrphanedBy => Parts::ORPHANED_BY,
            },
        }
    }

    fn column(&self, name: String) -> ColumnField {
        let (kind, nullable) = match self {
            Self::Property(property) => (type_of(property.kinds), true),
            Self::Common(common) => match common {
                Common::ResourceId | Common::Topic | Common::OrphanedBy => (DataType::Utf8, false),
                Common::Text(_) | Common::EventId => (DataType::Utf8, true),
                Common::CreatedAt | Common::UpdatedAt | Common::DeletedAt => (time_type(), true),
                Common::EventTime => (time_type(), false),
                Common::Partition => (DataType::Int32, false),
                Common::Offset => (DataType::Int64, false),
            },
        };
        ColumnField::new(name, kind, nullable)
    }
}

impl RejectSource {
    fn kind(self) -> DataType {
        match self {
            Self::Id | Self::Topic | Self::Key | Self::Reason | Self::Detail => DataType::Utf8,
            Self::Timestamp | Self::FirstSeen => time_type(),
            Self::Partition => DataType::Int32,
            Self::Offset | Self::Bytes => DataType::Int64,
        }
    }
}

/// The type of a property's column.
fn type_of(kinds: Kinds) -> DataType {
    match kinds.column() {
        PropertyColumn::Text | PropertyColumn::Json => DataType::Utf8,
        PropertyColumn::Time => time_type(),
        PropertyColumn::Boolean => DataType::Boolean,
        PropertyColumn::Integer => DataType::Int64,
        PropertyColumn::Number => DataType::Float64,
    }
}
