//! A record that is no event: skipped because it is about something else, or rejected into the quarantine.
//!
//! A reject keeps what is needed to look at it and to submit it again: coordinates, raw bytes (capped), the reason.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Coordinates, Epoch, EventId, EventOrder, ResourceId};

/// Why a record was passed over although nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// A relationship event of the legacy eras (F18).
    Relationship,
    /// An event of the sibling tuples topic.
    Tuple,
    /// A record of a topic that was not asked for.
    OtherTopic,
}

impl SkipReason {
    /// All reasons, for the counters.
    pub const ALL: [Self; 3] = [Self::Relationship, Self::Tuple, Self::OtherTopic];

    /// The label of its counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relationship => "relationship",
            Self::Tuple => "tuple",
            Self::OtherTopic => "other_topic",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $label:literal,)*) => {
        /// The class of what is wrong with a record.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum RejectReason { $($(#[$doc])* $variant,)* }

        impl RejectReason {
            /// All reasons, for the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The label of its counter and its name over HTTP.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The reason with this label.
            pub fn parse(label: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == label)
            }
        }
    };
}

reasons! {
    /// A line of a log that is no record at all.
    NotALogLine = "not_a_log_line",
    /// Neither the key nor the payload says which resource it is (K4).
    NoIdentity = "no_identity",
    /// The key is a text, but no UUID, or too long (M2).
    InvalidKey = "invalid_key",
    /// A header is not UTF-8 or too long (M3).
    InvalidHeader = "invalid_header",
    /// The operation is empty or unknown (H4, M3).
    UnknownOperation = "unknown_operation",
    /// Nothing says what the operation is (H3).
    MissingOperation = "missing_operation",
    /// Zero bytes of value (M1).
    EmptyValue = "empty_value",
    /// `{}` or null without a delete to go with it (V6, V7).
    EmptyPayload = "empty_payload",
    /// A null value whose header says that it is no delete (V8).
    ContradictoryTombstone = "contradictory_tombstone",
    /// Not JSON, cut off, or followed by something else (V9, M4).
    NotJson = "not_json",
    /// Not UTF-8, or a lone surrogate (M5).
    InvalidText = "invalid_text",
    /// Nested too deeply (M6).
    TooDeep = "too_deep",
    /// A JSON object has a key twice (M7).
    DuplicateKey = "duplicate_key",
    /// JSON of another shape (V9).
    WrongShape = "wrong_shape",
    /// A field of the wrong type (M9).
    WrongType = "wrong_type",
    /// A required field is absent (M9).
    MissingField = "missing_field",
    /// A field is longer than any that Kessel writes.
    FieldTooLong = "field_too_long",
    /// A time that is no RFC 3339 (M15).
    InvalidTimestamp = "invalid_timestamp",
    /// A `specversion` or an event type of another time (M19).
    UnknownVersion = "unknown_version",
    /// Avro or Protobuf by its first byte (M10).
    BinaryFormat = "binary_format",
    /// Greater than the limit of a record (K20).
    RecordTooLarge = "record_too_large",
}

/// A rejected record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// The resource, where the record says it.
    pub id: Option<ResourceId>,
    /// Header id, else payload id.
    pub event_id: Option<EventId>,
    /// The text of the id, only when it is no UUID.
    pub event_id_text: Option<Box<str>>,
    /// Where the record stands.
    pub order: EventOrder,
    /// The record's timestamp, ms since 1970.
    pub observed_ms: i64,
    /// The class of what is wrong.
    pub reason: RejectReason,
    /// What exactly is wrong, for a person.
    pub detail: Box<str>,
    /// The key, capped; none where it was null.
    pub key: Option<Box<[u8]>>,
    /// The value, capped; none where it was null.
    pub value: Option<Box<[u8]>>,
    /// The headers, capped.
    pub headers: Vec<(Box<str>, Option<Box<[u8]>>)>,
    /// Bytes of key and value before they were capped.
    pub total_bytes: u64,
}

impl Reject {
    /// So many headers are kept.
    pub const HEADERS_MAX: usize = 64;
    /// So much of a header's name is kept.
    pub const HEADER_NAME_BYTES_MAX: usize = 256;

    /// Bytes that keeping it costs, nearly.
    pub fn held_bytes(&self) -> usize {
        let blob = |bytes: &Option<Box<[u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + blob(value)).sum();
        256 + blob(&self.key) + blob(&self.value) + headers + self.detail.len()
    }
}

/// Whether later events have made an entry moot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum QuarantineStatus {
    /// Nothing newer has arrived for its resource.
    Open,
    /// A newer event arrived that did not say everything: the lost one may have said more.
    PartlySuperseded,
}

impl QuarantineStatus {
    /// Its name over HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::PartlySuperseded => "partly superseded",
        }
    }
}

/// A reject as the quarantine shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QuarantineEntry {
    /// The record.
    pub reject: Reject,
    /// Whether later events have made it moot.
    pub status: QuarantineStatus,
    /// The epoch in which it was met.
    pub first_seen: Epoch,
}

impl QuarantineEntry {
    /// Where its record stands; its identity over HTTP.
    pub fn coordinates(&self) -> Coordinates {
        self.reject.order.coordinates
    }
}

impl PartialEq for QuarantineEntry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for QuarantineEntry {}

impl PartialOrd for QuarantineEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QuarantineEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        let version = |entry: &Self| (entry.reject.order, entry.first_seen, entry.status);
        version(self).cmp(&version(other))
    }
}
