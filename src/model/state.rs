//! The current state of one resource, live or deleted, with what is needed to recognise a redelivery.
//!
//! Immutable once made: the upsert's map and every batch of an arrangement share it behind one `Arc`.
//! Two states of one id are told apart by the epoch that made them, so ordering them never reads a text.

use std::cmp::Ordering;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{Coordinates, Epoch, EventId, Field, ResourceId, Texts, Timestamp};

/// Alive, or a tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifecycle {
    /// Reported and not deleted since.
    Live {
        /// When it was first reported, none where no event said so.
        created_at: Option<Timestamp>,
        /// When it was last reported, none where the last event did not say.
        updated_at: Option<Timestamp>,
    },
    /// Deleted; kept as long as an old event could come again.
    Deleted {
        /// The time in the delete's id, else its record's timestamp.
        deleted_at: Option<Timestamp>,
    },
}

/// The event that made a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEvent {
    /// Its id, none where the record had none.
    pub id: Option<EventId>,
    /// Where its record stands.
    pub coordinates: Coordinates,
    /// The record's timestamp, ms since 1970.
    pub observed_ms: i64,
    /// The epoch in which it was folded.
    pub epoch: Epoch,
}

impl LastEvent {
    /// When the event happened: the time in its id, else its record's timestamp.
    pub fn time(&self) -> Timestamp {
        let id_ms = self.id.and_then(EventId::time_ms).and_then(|ms| i64::try_from(ms).ok());
        Timestamp::from_millis(id_ms.unwrap_or(self.observed_ms))
    }
}

/// The ids of recent events and the floor under which an id counts as a replay (design section 3).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SeenIds {
    /// In order of application.
    pub(crate) recent: Box<[EventId]>,
    /// Ids from the future: listed until their time has passed, never raising the floor before.
    #[expect(clippy::box_collection, reason = "8 bytes instead of 24 in a million states that have none")]
    pub(crate) future: Option<Box<Vec<EventId>>>,
    /// The greatest time of any id let go, in ms since 1970, plus one.
    floor_ms_1: Option<NonZeroU64>,
}

impl SeenIds {
    /// What was kept of them, taken back.
    pub(crate) fn kept(recent: Vec<EventId>, future: Vec<EventId>, floor_ms: Option<u64>) -> Self {
        let mut seen = Self { recent: recent.into_boxed_slice(), ..Self::default() };
        seen.future = Some(future).filter(|future| !future.is_empty()).map(Box::new);
        if let Some(floor_ms) = floor_ms {
            seen.raise_floor(floor_ms);
        }
        seen
    }

    /// The floor, ms since 1970; none while the list is the whole history.
    pub fn floor_ms(&self) -> Option<u64> {
        self.floor_ms_1.map(|floor| floor.get() - 1)
    }

    /// Raises the floor to `ms`; it never sinks.
    pub(crate) fn raise_floor(&mut self, ms: u64) {
        self.floor_ms_1 = self.floor_ms_1.max(NonZeroU64::MIN.checked_add(ms));
    }

    /// Whether an id is among the kept ones.
    pub fn contains(&self, id: EventId) -> bool {
        // Newest first: a redelivery is most often a recent one.
        self.recent.iter().rev().any(|known| *known == id)
            || self.future.as_deref().is_some_and(|future| future.contains(&id))
    }
}

/// The state of one resource after its last applied event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// The resource.
    pub id: ResourceId,
    /// Alive or deleted, with its times.
    pub lifecycle: Lifecycle,
    /// Type, workspace, the one report (reporter key, hrefs, version, data). A tombstone keeps type, reporter key
    /// and last workspace.
    pub texts: Texts,
    /// The event that made this state.
    pub last: LastEvent,
    /// What recognises redeliveries.
    pub seen: SeenIds,
    /// What few resources have.
    pub(crate) uncommon: Option<Box<Uncommon>>,
}

/// What few resources have, out of the way of the many.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Uncommon {
    /// When an id without a time of its own was first met, ms since 1970: the first event's record timestamp, else its
    /// epoch.
    pub(crate) first_met_ms: Option<u64>,
    /// Reporter keys that the resource held before the present one: it stays a holder of them (F14, M12).
    pub(crate) former_keys: Vec<Texts>,
}

impl Uncommon {
    /// None where there is nothing uncommon.
    pub(crate) fn of(first_met_ms: Option<u64>, former_keys: Vec<Texts>) -> Option<Box<Self>> {
        let uncommon = Self { first_met_ms, former_keys };
        (uncommon != Self::default()).then(|| Box::new(uncommon))
    }
}

/// At most this many former reporter keys are kept, the last ones. Kessel never changes a key.
pub(crate) const FORMER_KEYS_MAX: usize = 8;

/// The fields that make up a reporter key.
pub const REPORTER_KEY: [Field; 4] =
    [Field::ResourceType, Field::ReporterType, Field::ReporterInstanceId, Field::LocalResourceId];

impl State {
    /// The text of a field.
    #[inline]
    pub fn text(&self, field: Field) -> Option<&str> {
        self.texts.get(field)
    }

    /// Whether the resource is alive.
    pub fn is_live(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Live { .. })
    }

    /// When the id was first met, ms since 1970; none where the id says by itself when it was made.
    pub fn first_met_ms(&self) -> Option<u64> {
        self.uncommon.as_ref().and_then(|uncommon| uncommon.first_met_ms)
    }

    /// Texts of the reporter keys that the resource holds or held: the present one first, as far as it is known.
    pub fn reporter_keys(&self) -> impl Iterator<Item = &Texts> {
        let former = self.uncommon.as_ref().map_or(&[][..], |uncommon| &uncommon.former_keys);
        std::iter::once(&self.texts).chain(former)
    }

    /// What tells two states of one id apart: an epoch leaves at most one.
    fn version(&self) -> Epoch {
        self.last.epoch
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for State {}

impl PartialOrd for State {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for State {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.id, self.version()).cmp(&(other.id, other.version()))
    }
}

/// What an applied event did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Made a resource that was not known (F1).
    Created,
    /// Made a resource by its update, because the log began later (F2).
    Met,
    /// Replaced the report (F3, F4).
    Updated,
    /// Said the same again (F20): times and event columns moved, nothing else.
    Repeated,
    /// Deleted a live resource (F10).
    Deleted,
    /// Deleted one never met (F11).
    DeletedUnknown,
    /// Deleted what was deleted: nothing changed but the ids (F12).
    DeletedAgain,
    /// Reported after a delete: same id, a new life (F13).
    Revived,
}

impl Applied {
    /// All outcomes, for the counters.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Met,
        Self::Updated,
        Self::Repeated,
        Self::Deleted,
        Self::DeletedUnknown,
        Self::DeletedAgain,
        Self::Revived,
    ];

    /// The label of its counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Met => "met",
            Self::Updated => "updated",
            Self::Repeated => "repeated",
            Self::Deleted => "deleted",
            Self::DeletedUnknown => "deleted_unknown",
            Self::DeletedAgain => "deleted_again",
            Self::Revived => "revived",
        }
    }
}

/// Why an event changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum IgnoredReason {
    /// Its offset is below the position that this process resumed from (rule 1).
    AlreadyRead,
    /// Its id is among those that the state remembers (rule 2).
    Duplicate,
    /// Its id's time is at or below the floor (rule 3).
    BelowFloor,
    /// It comes from another partition and is much older than the last applied event (rule 4).
    StaleBacklog,
    /// It has no id, and its offset is not beyond the last one applied from its partition (H5).
    OffsetNotNewer,
    /// It deletes what is deleted (F12).
    AlreadyDeleted,
    /// It was read again out of the quarantine, and its resource has moved on since it was rejected.
    Superseded,
}

impl IgnoredReason {
    /// All reasons, for the counters.
    pub const ALL: [Self; 7] = [
        Self::AlreadyRead,
        Self::Duplicate,
        Self::BelowFloor,
        Self::StaleBacklog,
        Self::OffsetNotNewer,
        Self::AlreadyDeleted,
        Self::Superseded,
    ];

    /// The label of its counter and its name over HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyRead => "already_read",
            Self::Duplicate => "duplicate",
            Self::BelowFloor => "below_floor",
            Self::StaleBacklog => "stale_backlog",
            Self::OffsetNotNewer => "offset_not_newer",
            Self::AlreadyDeleted => "already_deleted",
            Self::Superseded => "superseded",
        }
    }
}

/// An event that changed nothing, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Why.
    pub reason: IgnoredReason,
    /// The resource, none where the record was dropped before it was decoded.
    pub id: Option<ResourceId>,
    /// The event's id.
    pub event_id: Option<EventId>,
    /// The text of the id, only when it is no UUID.
    pub event_id_text: Option<Box<str>>,
    /// Where its record stands.
    pub coordinates: Coordinates,
    /// The epoch in which it was met.
    pub epoch: Epoch,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_small_because_there_are_millions() {
        // With the two counts of its `Arc` it fills an allocator's class of 192 bytes.
        assert_eq!(size_of::<State>(), 176);
    }
}
