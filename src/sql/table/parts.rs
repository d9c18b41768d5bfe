//! What of a state a column is made of: a bit for each part, so that a change that touches no asked column costs a
//! comparison and nothing more.
//!
//! Promises: if no part of a column changed between two states of one resource, the column is equal, or equally
//! unreadable. The contrary is not promised: `data` is one part, whatever property was asked for.

use crate::model::{EventId, Field, Lifecycle, State, Timestamp};

/// Parts of a state from which columns come, to tell which changes matter to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts(u32);

impl Parts {
    /// All of them.
    pub const ALL: Self = Self(u32::MAX);
    /// Who took an orphan's place; no part of a state.
    pub const ORPHANED_BY: Self = Self(1);
    pub(super) const CREATED_AT: Self = Self(1 << 1);
    pub(super) const UPDATED_AT: Self = Self(1 << 2);
    pub(super) const DELETED_AT: Self = Self(1 << 3);
    pub(super) const EVENT_ID: Self = Self(1 << 4);
    pub(super) const EVENT_TIME: Self = Self(1 << 5);
    pub(super) const TOPIC: Self = Self(1 << 6);
    pub(super) const PARTITION: Self = Self(1 << 7);
    pub(super) const OFFSET: Self = Self(1 << 8);
    /// The first of the texts, which come last.
    const FIRST_TEXT: u32 = 16;

    /// A text.
    pub(super) const fn text(field: Field) -> Self {
        Self(1 << (Self::FIRST_TEXT + field as u32))
    }

    /// Those of either.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether they have one in common.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The parts in which two states of one resource differ. What decides in which table a resource stands is not among
    /// them: see [`super::Table::holds`].
    pub fn changed(before: &State, after: &State) -> Self {
        let differ = |part: Self, differ: bool| if differ { part } else { Self::default() };
        let is_other_event = (before.last.id, before.last.observed_ms) != (after.last.id, after.last.observed_ms);
        let [at, then] = [before.last.coordinates, after.last.coordinates];
        let mut changed = [
            differ(Self::CREATED_AT, created_at(before) != created_at(after)),
            differ(Self::UPDATED_AT, updated_at(before) != updated_at(after)),
            differ(Self::DELETED_AT, deleted_at(before) != deleted_at(after)),
            differ(Self::EVENT_ID, event_id(before) != event_id(after)),
            differ(Self::EVENT_TIME, is_other_event && before.last.time() != after.last.time()),
            differ(Self::TOPIC, at.topic != then.topic),
            differ(Self::PARTITION, at.partition != then.partition),
            differ(Self::OFFSET, at.offset != then.offset),
        ]
        .into_iter()
        .fold(Self::default(), Self::union);
        // A report that only repeats has the same texts: one comparison of them all.
        if before.texts != after.texts {
            for field in Field::ALL {
                changed = changed.union(differ(Self::text(field), before.text(field) != after.text(field)));
            }
        }
        changed
    }
}

/// When a live resource was first reported.
pub(super) fn created_at(state: &State) -> Option<Timestamp> {
    match state.lifecycle {
        Lifecycle::Live { created_at, .. } => created_at,
        Lifecycle::Deleted { .. } => None,
    }
}

/// When a live resource was last reported.
pub(super) fn updated_at(state: &State) -> Option<Timestamp> {
    match state.lifecycle {
        Lifecycle::Live { updated_at, .. } => updated_at,
        Lifecycle::Deleted { .. } => None,
    }
}

/// When a resource was deleted.
pub(super) fn deleted_at(state: &State) -> Option<Timestamp> {
    match state.lifecycle {
        Lifecycle::Live { .. } => None,
        Lifecycle::Deleted { deleted_at } => deleted_at,
    }
}

/// The id of the last event: its text where that is no UUID.
pub(super) fn event_id(state: &State) -> Result<&str, Option<EventId>> {
    state.text(Field::EventIdText).ok_or(state.last.id)
}
