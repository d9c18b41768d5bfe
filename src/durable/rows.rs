//! What the rows of a snapshot mean: states, what is kept beyond its time, the quarantine, header ids of rejects.
//!
//! Rows are written in `postcard`'s format from structures that exist for nothing else, so that a change of what the
//! service holds in memory cannot change what it reads from disk in silence: one exhaustive translation each way. Every
//! key begins with the kind of its row; within a run keys ascend. Topics are numbers, by the table of names beside the
//! run (`RunMeta`), which is interned before any row is read. Version 1 is the only one there is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dataflow::{KeptUntil, RejectKey, SeenReject};
use crate::model::{
    Coordinates, EventId, EventOrder, LastEvent, Lifecycle, QuarantineEntry, QuarantineStatus, Reject, RejectReason,
    ResourceId, SeenIds, State, Texts, Timestamp, TopicId, Uncommon,
};

/// What stands first in every `RunMeta`; another version is not read.
pub const ROWS_VERSION: u32 = 1;

/// A row as it is kept.
#[derive(Debug, Clone)]
pub enum Row {
    /// A record in the quarantine, written once.
    Rejected(Arc<QuarantineEntry>),
    /// A tombstone that is kept beyond its time; every run lists all of them.
    Kept(ResourceId, KeptUntil),
    /// A record that is in the quarantine now, and its status; every run lists all of them.
    InQuarantine(RejectKey, QuarantineStatus),
    /// A header id of a reject.
    SeenReject(RejectKey, SeenReject),
    /// A live resource or a tombstone.
    State(Arc<State>),
}

/// A row that cannot be read although its checksum is right: it was written by something else.
#[derive(Debug, thiserror::Error)]
#[error("a row of the snapshot is not one of this version: {0}")]
pub struct RowError(pub(super) &'static str);

/// The first byte of a key.
mod kind {
    pub(super) const REJECTED: u8 = b'b';
    pub(super) const KEPT: u8 = b'k';
    pub(super) const IN_QUARANTINE: u8 = b'q';
    pub(super) const SEEN_REJECT: u8 = b'r';
    pub(super) const STATE: u8 = b's';
}

type StoredId = [u8; 16];
type StoredTexts<'a> = Vec<Option<&'a str>>;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct StoredTime {
    seconds: i64,
    nanoseconds: u32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum StoredLifecycle {
    Live { created_at: Option<StoredTime>, updated_at: Option<StoredTime> },
    Deleted { deleted_at: Option<StoredTime> },
}

#[derive(Serialize, Deserialize)]
struct StoredPlace {
    topic: u16,
    partition: i32,
    offset: i64,
}

#[derive(Serialize, Deserialize)]
struct StoredState<'a> {
    lifecycle: StoredLifecycle,
    #[serde(borrow)]
    texts: StoredTexts<'a>,
    event_id: Option<StoredId>,
    place: StoredPlace,
    observed_ms: i64,
    epoch: u64,
    recent: Vec<StoredId>,
    future: Vec<StoredId>,
    floor_ms: Option<u64>,
    first_met_ms: Option<u64>,
    #[serde(borrow)]
    former_keys: Vec<StoredTexts<'a>>,
}

#[derive(Serialize, Deserialize)]
struct StoredReject<'a> {
    id: Option<StoredId>,
    event_id: Option<StoredId>,
    event_id_text: Option<&'a str>,
    place: StoredPlace,
    arrival: u64,
    observed_ms: i64,
    reason: &'a str,
    detail: &'a str,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    #[serde(borrow)]
    headers: Vec<(&'a str, Option<&'a [u8]>)>,
    total_bytes: u64,
    first_seen: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredSeenReject {
    id: Option<StoredId>,
    event_id: StoredId,
}

fn stored_id(id: ResourceId) -> StoredId {
    *id.uuid().as_bytes()
}

fn stored_event_id(id: EventId) -> StoredId {
    *id.uuid().as_bytes()
}

fn resource_id(id: StoredId) -> ResourceId {
    ResourceId::from_uuid(Uuid::from_bytes(id))
}

fn event_id(id: StoredId) -> Result<EventId, RowError> {
    EventId::from_uuid(Uuid::from_bytes(id)).ok_or(RowError("an event id of zeros"))
}

fn stored_time(time: Timestamp) -> StoredTime {
    let (seconds, nanoseconds) = time.parts();
    StoredTime { seconds, nanoseconds }
}

fn time(stored: StoredTime) -> Timestamp {
    Timestamp::from_parts(stored.seconds, stored.nanoseconds)
}

fn stored_place(at: Coordinates) -> StoredPlace {
    let topic = u16::try_from(at.topic.index()).expect("the table of topics has 65,536 places");
    StoredPlace { topic, partition: at.partition, offset: at.offset }
}

fn coordinates(place: &StoredPlace) -> Coordinates {
    Coordinates { topic: TopicId::at(place.topic), partition: place.partition, offset: place.offset }
}

fn texts(stored: &StoredTexts<'_>) -> Result<Texts, RowError> {
    let fields = stored.as_slice().try_into().map_err(|_| RowError("another number of text fields"))?;
    Texts::build(fields).map_err(|_| RowError("texts that are too long"))
}

/// The bytes of a reject's place in time, in the order of [`RejectKey`].
fn reject_key_bytes(kind: u8, (epoch, order): RejectKey) -> Vec<u8> {
    let at = order.coordinates;
    let mut key = vec![kind];
    key.extend_from_slice(&epoch.to_be_bytes());
    key.extend_from_slice(&order.arrival.to_be_bytes());
    key.extend_from_slice(&stored_place(at).topic.to_be_bytes());
    key.extend_from_slice(&at.partition.to_be_bytes());
    key.extend_from_slice(&at.offset.to_be_bytes());
    key
}

/// Takes so many bytes from the front of a key.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], RowError> {
    let (head, tail) = rest.split_first_chunk().ok_or(RowError("a key that is too short"))?;
    *rest = tail;
    Ok(*head)
}

fn reject_key(mut rest: &[u8]) -> Result<RejectKey, RowError> {
    let rest = &mut rest;
    let (epoch, arrival) = (u64::from_be_bytes(take(rest)?), u64::from_be_bytes(take(rest)?));
    let (topic, partition) = (u16::from_be_bytes(take(rest)?), i32::from_be_bytes(take(rest)?));
    let offset = i64::from_be_bytes(take(rest)?);
    let coordinates = Coordinates { topic: TopicId::at(topic), partition, offset };
    Ok((epoch, EventOrder { coordinates, arrival }))
}

impl Row {
    /// The row's key: its kind, then what tells it from the others of its kind.
    pub fn key(&self) -> Vec<u8> {
        match self {
            Self::Rejected(entry) => reject_key_bytes(kind::REJECTED, (entry.first_seen, entry.reject.order)),
            Self::Kept(id, until) => [&[kind::KEPT][..], &stored_id(*id), &until.to_be_bytes()].concat(),
            Self::InQuarantine(key, _) => reject_key_bytes(kind::IN_QUARANTINE, *key),
            Self::SeenReject(key, _) => reject_key_bytes(kind::SEEN_REJECT, *key),
            Self::State(state) => [&[kind::STATE][..], &stored_id(state.id)].concat(),
        }
    }

    /// The row's value.
    pub fn value(&self) -> Vec<u8> {
        let bytes = match self {
            Self::Rejected(entry) => postcard::to_allocvec(&stored_reject(entry)),
            Self::Kept(..) => return Vec::new(),
            Self::InQuarantine(_, QuarantineStatus::Open) => return vec![0],
            Self::InQuarantine(_, QuarantineStatus::PartlySuperseded) => return vec![1],
            Self::SeenReject(_, (id, event_id)) => {
                postcard::to_allocvec(&StoredSeenReject { id: id.map(stored_id), event_id: stored_event_id(*event_id) })
            }
            Self::State(state) => postcard::to_allocvec(&stored_state(state)),
        };
        bytes.expect("memory takes any row")
    }

    /// The row that a key and a value stand for.
    pub fn read(key: &[u8], value: &[u8]) -> Result<Self, RowError> {
        let malformed = |_| RowError("a value that cannot be read");
        let (kind, mut rest) = key.split_first().ok_or(RowError("an empty key"))?;
        let rest = &mut rest;
        let row = match *kind {
            kind::REJECTED => {
                Self::Rejected(Arc::new(quarantine_entry(&postcard::from_bytes(value).map_err(malformed)?)?))
            }
            kind::KEPT => {
                let id = resource_id(take(rest)?);
                Self::Kept(id, u64::from_be_bytes(take(rest)?))
            }
            kind::IN_QUARANTINE => Self::InQuarantine(
                reject_key(rest)?,
                match value {
                    [0] => QuarantineStatus::Open,
                    [1] => QuarantineStatus::PartlySuperseded,
                    _ => return Err(RowError("an unknown status of a quarantine entry")),
                },
            ),
            kind::SEEN_REJECT => {
                let stored: StoredSeenReject = postcard::from_bytes(value).map_err(malformed)?;
                Self::SeenReject(reject_key(rest)?, (stored.id.map(resource_id), event_id(stored.event_id)?))
            }
            kind::STATE => {
                let id = resource_id(take(rest)?);
                Self::State(Arc::new(state(id, &postcard::from_bytes(value).map_err(malformed)?)?))
            }
            _ => return Err(RowError("an unknown kind")),
        };
        if row.key() == key { Ok(row) } else { Err(RowError("a key that is not its row's")) }
    }
}

fn stored_state(state: &State) -> StoredState<'_> {
    let State { id: _, lifecycle, texts, last, seen, uncommon } = state;
    let LastEvent { id, coordinates, observed_ms, epoch } = *last;
    let former_keys = uncommon.as_ref().map_or(&[][..], |uncommon| &uncommon.former_keys);
    StoredState {
        lifecycle: match *lifecycle {
            Lifecycle::Live { created_at, updated_at } => StoredLifecycle::Live {
                created_at: created_at.map(stored_time),
                updated_at: updated_at.map(stored_time),
            },
            Lifecycle::Deleted { deleted_at } => StoredLifecycle::Deleted { deleted_at: deleted_at.map(stored_time) },
        },
        texts: texts.fields().to_vec(),
        event_id: id.map(stored_event_id),
        place: stored_place(coordinates),
        observed_ms,
        epoch,
        recent: seen.recent.iter().copied().map(stored_event_id).collect(),
        future: seen.future.iter().flat_map(|ids| ids.iter().copied()).map(stored_event_id).collect(),
        floor_ms: seen.floor_ms(),
        first_met_ms: state.first_met_ms(),
        former_keys: former_keys.iter().map(|key| key.fields().to_vec()).collect(),
    }
}

fn state(id: ResourceId, stored: &StoredState<'_>) -> Result<State, RowError> {
    let ids = |ids: &[StoredId]| ids.iter().copied().map(event_id).collect::<Result<Vec<_>, _>>();
    let former_keys = stored.former_keys.iter().map(texts).collect::<Result<Vec<_>, _>>()?;
    Ok(State {
        id,
        lifecycle: match stored.lifecycle {
            StoredLifecycle::Live { created_at, updated_at } => {
                Lifecycle::Live { created_at: created_at.map(time), updated_at: updated_at.map(time) }
            }
            StoredLifecycle::Deleted { deleted_at } => Lifecycle::Deleted { deleted_at: deleted_at.map(time) },
        },
        texts: texts(&stored.texts)?,
        last: LastEvent {
            id: stored.event_id.map(event_id).transpose()?,
            coordinates: coordinates(&stored.place),
            observed_ms: stored.observed_ms,
            epoch: stored.epoch,
        },
        seen: SeenIds::kept(ids(&stored.recent)?, ids(&stored.future)?, stored.floor_ms),
        uncommon: Uncommon::of(stored.first_met_ms, former_keys),
    })
}

fn stored_reject(entry: &QuarantineEntry) -> StoredReject<'_> {
    let QuarantineEntry { reject, status: _, first_seen } = entry;
    let Reject { id, event_id, event_id_text, order, observed_ms, reason, detail, key, value, headers, total_bytes } =
        reject;
    StoredReject {
        id: id.map(stored_id),
        event_id: event_id.map(stored_event_id),
        event_id_text: event_id_text.as_deref(),
        place: stored_place(order.coordinates),
        arrival: order.arrival,
        observed_ms: *observed_ms,
        reason: reason.as_str(),
        detail,
        key: key.as_deref(),
        value: value.as_deref(),
        headers: headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect(),
        total_bytes: *total_bytes,
        first_seen: *first_seen,
    }
}

/// The entry as it was first met; its status stands elsewhere.
fn quarantine_entry(stored: &StoredReject<'_>) -> Result<QuarantineEntry, RowError> {
    let headers = stored.headers.iter().map(|(name, value)| ((*name).into(), value.map(Into::into)));
    let reject = Reject {
        id: stored.id.map(resource_id),
        event_id: stored.event_id.map(event_id).transpose()?,
        event_id_text: stored.event_id_text.map(Into::into),
        order: EventOrder { coordinates: coordinates(&stored.place), arrival: stored.arrival },
        observed_ms: stored.observed_ms,
        reason: RejectReason::parse(stored.reason).ok_or(RowError("an unknown reason of a reject"))?,
        detail: stored.detail.into(),
        key: stored.key.map(Into::into),
        value: stored.value.map(Into::into),
        headers: headers.collect(),
        total_bytes: stored.total_bytes,
    };
    Ok(QuarantineEntry { reject, status: QuarantineStatus::Open, first_seen: stored.first_seen })
}
