//! The duplicate rule: which events are new, and what to remember so that the answer stays right.
//!
//! Offsets alone would let a replayed suffix turn a resource back; ids alone would lose an update from a pod whose
//! clock is behind. So a state keeps the ids of its recent events and a floor: an id in the list was applied, an id at
//! or below the floor was applied or came too late to tell, everything else is new (design section 3, rules 2 to 5).
//! Whatever is let go raises the floor to its time, so a redelivery is always recognised; the ids with the least times
//! go first, so the floor stays as low as it can.

use super::{Rules, is_from_the_future};
use crate::model::{Event, EventId, IgnoredReason, Operation, SeenIds, State, plausible_ms};

/// This many of the newest ids are always kept.
pub const RECENT_ALWAYS: usize = 8;
/// At most this many ids are kept.
pub const RECENT_LIMIT: usize = 256;
/// At most this many ids from the future are kept.
pub const FUTURE_LIMIT: usize = 64;

/// Why the event is not new to `state`, none where it is.
pub(super) fn judge(state: &State, event: &Event, rules: &Rules) -> Option<IgnoredReason> {
    let last = state.last.coordinates;
    let here = event.order.coordinates;
    let same_partition = (last.topic, last.partition) == (here.topic, here.partition);
    let Some(id) = event.event_id else {
        let newer = !same_partition || here.offset > last.offset;
        return (!newer).then_some(IgnoredReason::OffsetNotNewer);
    };
    if state.seen.contains(id) {
        return Some(IgnoredReason::Duplicate);
    }
    let time_ms = id.time_ms()?;
    if state.seen.floor_ms().is_some_and(|floor| time_ms <= floor) {
        return Some(IgnoredReason::BelowFloor);
    }
    let reference_ms = reference_ms(state.last.id?, state.last.observed_ms, rules)?;
    let stale_before = reference_ms.saturating_sub(rules.clock_skew_tolerance_ms);
    (!same_partition && time_ms < stale_before).then_some(IgnoredReason::StaleBacklog)
}

/// The time of an event that others are measured against, ms since 1970: its id's, but its record's own timestamp where
/// the id is from the future and so tells no time.
fn reference_ms(id: EventId, observed_ms: i64, rules: &Rules) -> Option<u64> {
    let observed = plausible_ms(observed_ms).filter(|_| is_from_the_future(id, observed_ms, rules));
    id.time_ms().map(|ms| observed.unwrap_or(ms))
}

/// The ids to remember once the event is applied, and how many were forgotten although within the tolerance.
pub(super) fn remember(state: Option<&State>, event: &Event, rules: &Rules) -> (SeenIds, u32) {
    let known = state.map(|state| &state.seen);
    let mut seen = SeenIds::default();
    if let Some(floor_ms) = known.and_then(SeenIds::floor_ms) {
        seen.raise_floor(floor_ms);
    }
    let mut future = known.and_then(|known| known.future.clone());
    let recent = known.map_or(&[][..], |known| &known.recent);
    let Some(id) = event.event_id else {
        (seen.recent, seen.future) = (recent.into(), future);
        return (seen, 0);
    };
    if state.is_none()
        && event.operation != Operation::Created
        && let Some(ms) = reference_ms(id, event.observed_ms, rules)
    {
        seen.raise_floor(ms.saturating_sub(rules.clock_skew_tolerance_ms));
    }
    let (mut passed, mut forgotten) = (Vec::new(), 0);
    if let Some(future) = &mut future {
        let has_passed = |known: &EventId| !is_from_the_future(*known, event.observed_ms, rules);
        passed.extend(future.iter().copied().filter(has_passed));
        future.retain(|known| !has_passed(known));
    }
    let mut new = Some(id);
    if is_from_the_future(id, event.observed_ms, rules) {
        let future = future.get_or_insert_default();
        if future.len() == FUTURE_LIMIT {
            future.remove(0);
            forgotten += 1;
        }
        future.extend(new.take());
    }
    seen.future = future.filter(|future| !future.is_empty());
    forgotten += keep(passed.iter().chain(recent).copied().chain(new), &mut seen, rules);
    (seen, forgotten)
}

/// Keeps of `ids` those that are needed, raising the floor to the others'; returns how many of these were within the
/// tolerance. They are looked through more than once rather than collected twice: this is done for every event.
fn keep(ids: impl Iterator<Item = EventId> + Clone, seen: &mut SeenIds, rules: &Rules) -> u32 {
    let count = ids.clone().count();
    let old = count.saturating_sub(RECENT_ALWAYS);
    if old == 0 {
        seen.recent = collected(ids, count).into_boxed_slice();
        return 0;
    }
    let newest = ids.clone().filter_map(EventId::time_ms).max().unwrap_or(0);
    let keep_from = newest.saturating_sub(rules.clock_skew_tolerance_ms);
    let is_needed = |index: usize, id: EventId| index >= old || id.time_ms().is_some_and(|ms| ms >= keep_from);
    let mut needed = count;
    for (_, id) in ids.clone().enumerate().filter(|(index, id)| !is_needed(*index, *id)) {
        id.time_ms().into_iter().for_each(|ms| seen.raise_floor(ms));
        needed -= 1;
    }
    let kept = ids.enumerate().filter(|(index, id)| is_needed(*index, *id)).map(|(_, id)| id);
    let mut recent = collected(kept, needed);
    let mut within_tolerance = 0;
    while recent.len() > RECENT_LIMIT {
        let old = recent.len() - RECENT_ALWAYS;
        let oldest =
            (0..old).min_by_key(|index| recent[*index].time_ms()).expect("the limit is above what is always kept");
        recent.remove(oldest).time_ms().into_iter().for_each(|ms| seen.raise_floor(ms));
        within_tolerance += 1;
    }
    seen.recent = recent.into_boxed_slice();
    within_tolerance
}

/// Exactly so many ids, in memory of just their size.
fn collected(ids: impl Iterator<Item = EventId>, count: usize) -> Vec<EventId> {
    let mut all = Vec::with_capacity(count);
    all.extend(ids);
    all
}
