//! What a worker folded in an epoch, in short: how many events, which of them is the newest, and one for all.
//!
//! It goes with the cut, so that whoever shows an epoch knows how fresh it is and how long its events were on their way.
//! An event costs a comparison or two. The one for all is the last whose number, in the order of resources, is a power of
//! two: which it is does not depend on when an event came.

use std::cell::RefCell;
use std::rc::Rc;

use crate::model::{Epoch, Event, LastEvent, plausible_ms};

/// When the newest of some events happened, and when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestEvent {
    /// When it happened, ms since 1970: the time in its id, else its record's timestamp. No clock is believed that says
    /// it was after the record was written, or that after it was read.
    pub happened_ms: u64,
    /// The epoch that took it.
    pub arrived: Epoch,
}

impl NewestEvent {
    fn new(id_time_ms: Option<u64>, observed_ms: i64, epoch: Epoch) -> Self {
        let told = [id_time_ms, plausible_ms(observed_ms)].into_iter().flatten();
        Self { happened_ms: told.fold(epoch, u64::min), arrived: epoch }
    }

    /// That of a state.
    pub fn of(last: &LastEvent) -> Self {
        Self::new(last.id.and_then(|id| id.time_ms()), last.observed_ms, last.epoch)
    }

    /// The newer of two; of two that happened at once the first.
    pub fn newer(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(one), Some(other)) if other.happened_ms > one.happened_ms => Some(other),
            (first, second) => first.or(second),
        }
    }
}

/// What a worker folded in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folded {
    /// The epoch.
    pub epoch: Epoch,
    /// The newest event.
    pub newest: NewestEvent,
    /// How many events changed a state; none where a snapshot was taken back.
    pub events: u64,
    /// How many of them have a time in their ids.
    pub timed: u64,
    /// The time in the id of one of these, ms since 1970.
    pub timed_ms: u64,
}

impl Folded {
    /// Notes an event that was applied.
    pub(super) fn note(folded: &mut Option<Self>, event: &Event, epoch: Epoch) {
        let id_time_ms = event.id_time_ms();
        let newest = NewestEvent::new(id_time_ms, event.observed_ms, epoch);
        let folded = folded.get_or_insert(Self { epoch, newest, events: 0, timed: 0, timed_ms: 0 });
        folded.events += 1;
        if newest.happened_ms > folded.newest.happened_ms {
            folded.newest = newest;
        }
        if let Some(id_time_ms) = id_time_ms {
            folded.timed += 1;
            if folded.timed.is_power_of_two() {
                folded.timed_ms = id_time_ms;
            }
        }
    }

    /// That of states that are taken back at an epoch; none of none.
    pub(super) fn restored<'a>(lasts: impl Iterator<Item = &'a LastEvent>, epoch: Epoch) -> Option<Self> {
        let newest = lasts.map(NewestEvent::of).fold(None, |newest, one| NewestEvent::newer(newest, Some(one)))?;
        Some(Self { epoch, newest, events: 0, timed: 0, timed_ms: 0 })
    }
}

/// What was folded and is in no cut yet; the operator that folds adds to it.
pub(super) type FoldedSoFar = Rc<RefCell<Vec<Folded>>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Coordinates, EventId, TopicId};

    const NOW: Epoch = 1_795_000_000_000;

    fn last(id_ms: Option<u64>, observed_ms: i64) -> NewestEvent {
        let id =
            id_ms.map(|ms| EventId::from_uuid(uuid::Uuid::from_u64_pair(ms << 16 | 0x7000, 1 << 63)).expect("an id"));
        let coordinates = Coordinates { topic: TopicId::at(0), partition: 0, offset: 0 };
        NewestEvent::of(&LastEvent { id, coordinates, observed_ms, epoch: NOW })
    }

    #[test]
    fn an_event_happened_before_its_record_was_written_and_read_whatever_clocks_say() {
        let observed = i64::try_from(NOW).expect("ms") - 1_000;
        let happened = |id_ms, observed_ms| NOW - last(id_ms, observed_ms).happened_ms;
        assert_eq!(happened(Some(NOW - 5_000), observed), 5_000, "by its id");
        assert_eq!(happened(Some(NOW + 86_400_000), observed), 1_000, "an id from the future");
        assert_eq!(happened(None, observed), 1_000, "no time in its id");
        assert_eq!(happened(Some(NOW - 5_000), -1), 5_000, "no timestamp");
        assert_eq!(happened(Some(NOW + 86_400_000), observed * 2), 0, "both from the future");
        assert_eq!(happened(None, 0), 0, "neither");
    }
}
