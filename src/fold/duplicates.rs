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
    let mut seen = state.map_or_else(SeenIds::default, |state| state.seen.clone());
    let Some(id) = event.event_id else {
        return (seen, 0);
    };
    if state.is_none()
        && event.operation != Operation::Created
        && let Some(ms) = reference_ms(id, event.observed_ms, rules)
    {
        seen.raise_floor(ms.saturating_sub(rules.clock_skew_tolerance_ms));
    }
    let mut recent = Vec::with_capacity(seen.recent.len() + 1);
    let mut forgotten = 0;
    if let Some(future) = seen.future.as_deref_mut() {
        let passed = |known: &EventId| !is_from_the_future(*known, event.observed_ms, rules);
        recent.extend(future.iter().copied().filter(passed));
        future.retain(|known| !passed(known));
    }
    recent.extend_from_slice(&seen.recent);
    if is_from_the_future(id, event.observed_ms, rules) {
        let future = seen.future.get_or_insert_default();
        if future.len() == FUTURE_LIMIT {
            future.remove(0);
            forgotten += 1;
        }
        future.push(id);
    } else {
        recent.push(id);
    }
    if seen.future.as_deref().is_some_and(Vec::is_empty) {
        seen.future = None;
    }
    forgotten += let_go(&mut recent, &mut seen, rules);
    seen.recent = recent.into_boxed_slice();
    (seen, forgotten)
}

/// Forgets ids that need not be kept, raising the floor to theirs; returns how many of them were within the tolerance.
fn let_go(recent: &mut Vec<EventId>, seen: &mut SeenIds, rules: &Rules) -> u32 {
    if recent.len() <= RECENT_ALWAYS {
        return 0;
    }
    let newest = recent.iter().filter_map(|id| id.time_ms()).max().unwrap_or(0);
    let keep_from = newest.saturating_sub(rules.clock_skew_tolerance_ms);
    let old = recent.len() - RECENT_ALWAYS;
    let mut raise = |id: EventId| id.time_ms().into_iter().for_each(|ms| seen.raise_floor(ms));
    let mut index = 0;
    recent.retain(|id| {
        let keep = index >= old || id.time_ms().is_some_and(|ms| ms >= keep_from);
        index += 1;
        if !keep {
            raise(*id);
        }
        keep
    });
    let mut within_tolerance = 0;
    while recent.len() > RECENT_LIMIT {
        let old = recent.len() - RECENT_ALWAYS;
        let oldest =
            (0..old).min_by_key(|index| recent[*index].time_ms()).expect("the limit is above what is always kept");
        raise(recent.remove(oldest));
        within_tolerance += 1;
    }
    within_tolerance
}
