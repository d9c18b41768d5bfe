//! One decoded event about one resource.
//!
//! Absent means "not said" for the workspace and the data (kessel-events F5, F6); what that does to a state is the
//! business of `fold`.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Coordinates, EventId, Field, ResourceId, Texts, Timestamp};

/// What happened to the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// First report of a reporter key.
    Created,
    /// Any later report, also the first after a delete.
    Updated,
    /// The reporter deleted it.
    Deleted,
}

impl Operation {
    /// The operation that a header or a last segment of `type` names; lower case only, as Kessel writes it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "created" => Some(Self::Created),
            "updated" => Some(Self::Updated),
            "deleted" => Some(Self::Deleted),
            _ => None,
        }
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }
}

/// Something odd that was accepted and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Anomaly {
    /// The payload's own id differs from the key; the key is the identity (F17).
    IdDiffersFromKey,
    /// Header and `type` disagree about the operation; the header wins (H7).
    OperationDiffersFromType,
    /// A header name occurs twice; the last wins (H6).
    RepeatedHeader,
    /// No header id; the payload's id was taken (H5).
    NoHeaderId,
    /// No id at all; only the offset orders the event (H5).
    NoId,
}

impl Anomaly {
    /// All anomalies, for the counters.
    pub const ALL: [Self; 5] =
        [Self::IdDiffersFromKey, Self::OperationDiffersFromType, Self::RepeatedHeader, Self::NoHeaderId, Self::NoId];

    /// The label of its counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IdDiffersFromKey => "id_differs_from_key",
            Self::OperationDiffersFromType => "operation_differs_from_type",
            Self::RepeatedHeader => "repeated_header",
            Self::NoHeaderId => "no_header_id",
            Self::NoId => "no_id",
        }
    }
}

/// What orders records within an epoch: the order in which they were read, where reading the log again would give the
/// same (a file); where it would not (several partitions of a broker) all arrive together, and topic, partition and
/// offset decide. So what an epoch contains decides what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventOrder {
    /// Where the record stands.
    pub coordinates: Coordinates,
    /// Its place among all records that the process read; 0 for all of a source that has no order of its own.
    pub arrival: u64,
}

impl PartialOrd for EventOrder {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EventOrder {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |order: &Self| {
            let at = order.coordinates;
            (order.arrival, at.topic, at.partition, at.offset)
        };
        key(self).cmp(&key(other))
    }
}

/// A decoded event. Texts that a delete does not carry are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The resource: the record's key.
    pub id: ResourceId,
    /// What happened.
    pub operation: Operation,
    /// Header id, else payload id, else none.
    pub event_id: Option<EventId>,
    /// Where the record stands.
    pub order: EventOrder,
    /// The record's timestamp, ms since 1970; the epoch where the record had none. New at every redelivery.
    pub observed_ms: i64,
    /// `time` of the report, none where it was zero or the event is a delete.
    pub reported_at: Option<Timestamp>,
    /// `metadata.created_at`.
    pub created_at: Option<Timestamp>,
    /// Type, workspace, reporter, hrefs, data.
    pub texts: Texts,
}

/// Record timestamps before 2015 are no times at all: Kafka writes 0 and -1 where it has none (K22).
const EARLIEST_PLAUSIBLE_MS: i64 = 1_420_070_400_000;

/// A record's timestamp, ms since 1970, none where it cannot be one. Only what is known to be a time may judge an id.
pub fn plausible_ms(timestamp_ms: i64) -> Option<u64> {
    u64::try_from(timestamp_ms).ok().filter(|_| timestamp_ms >= EARLIEST_PLAUSIBLE_MS)
}

impl Event {
    /// The text of a field.
    pub fn text(&self, field: Field) -> Option<&str> {
        self.texts.get(field)
    }

    /// The time in the event's id, ms since 1970.
    pub fn id_time_ms(&self) -> Option<u64> {
        self.event_id.and_then(EventId::time_ms)
    }
}
