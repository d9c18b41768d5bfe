//! The fold: one resource's state, one event, the state after it. Pure, and the heart of Tarn.
//!
//! Promises: F1 to F21 of kessel-events section 4.2 and the duplicate rule of the design's section 3, for deletes too;
//! the same input gives the same output, whatever the clock, the worker or the batch. In: the state so far (none where
//! the id was never met or its tombstone expired) and a decoded event, in order of delivery. Out: [`Outcome`].
//! Not here: rule 1 (the resume position), which the ingest applies before it decodes; reporter keys that two ids hold
//! (F14), which need more than one state.

mod duplicates;
mod repeat;

use crate::model::{
    Applied, Epoch, Event, EventId, FORMER_KEYS_MAX, Field, IgnoredReason, LastEvent, Lifecycle, Operation,
    REPORTER_KEY, SeenIds, State, Texts, TextsTooLong, Timestamp, Uncommon, plausible_ms,
};

pub use duplicates::{FUTURE_LIMIT, RECENT_ALWAYS, RECENT_LIMIT};

/// The parameters of the duplicate rule.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How far the clocks of two writers may differ.
    pub clock_skew_tolerance_ms: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { clock_skew_tolerance_ms: 10_000 }
    }
}

/// What an event did.
#[derive(Debug)]
pub enum Outcome {
    /// There is a new state.
    Applied {
        /// The state after the event.
        state: State,
        /// What the event did to it.
        applied: Applied,
        /// Ids forgotten although within the tolerance: from here on an event that old would be lost.
        let_go_within_tolerance: u32,
    },
    /// The state stays as it is.
    Ignored(IgnoredReason),
}

/// Folds `event` into `state` in `epoch`. An event that is applied may be left without its texts.
pub fn fold(state: Option<&State>, event: &mut Event, epoch: Epoch, rules: &Rules) -> Outcome {
    if let Some(state) = state
        && let Some(reason) = duplicates::judge(state, event, rules)
    {
        return Outcome::Ignored(reason);
    }
    let (seen, let_go_within_tolerance) = duplicates::remember(state, event, rules);
    let operation = event.operation;
    let frame = Frame { event, epoch, seen };
    let (state, applied) = match (operation, state) {
        (Operation::Deleted, previous) => frame.delete(previous),
        (operation, Some(previous)) if previous.is_live() => frame.report_again(operation, previous),
        (operation, previous) => frame.begin_life(operation, previous),
    };
    Outcome::Applied { state, applied, let_go_within_tolerance }
}

/// What every new state takes from the event alone.
struct Frame<'a> {
    event: &'a mut Event,
    epoch: Epoch,
    seen: SeenIds,
}

impl Frame<'_> {
    /// F1, F2, F13: a life that starts from nothing but this event.
    fn begin_life(self, operation: Operation, tombstone: Option<&State>) -> (State, Applied) {
        let applied = match (tombstone, operation) {
            (Some(_), _) => Applied::Revived,
            (None, Operation::Created) => Applied::Created,
            (None, _) => Applied::Met,
        };
        let created_at = match operation {
            Operation::Created => self.event.created_at.or(self.event.reported_at),
            _ => self.event.created_at,
        };
        let lifecycle = Lifecycle::Live { created_at, updated_at: self.event.reported_at };
        let texts = std::mem::take(&mut self.event.texts);
        (self.state(lifecycle, texts, tombstone), applied)
    }

    /// F3 to F9, F20, F21: a report on top of a known one.
    fn report_again(self, operation: Operation, previous: &State) -> (State, Applied) {
        let known_created_at = match previous.lifecycle {
            Lifecycle::Live { created_at, .. } => created_at,
            Lifecycle::Deleted { .. } => None,
        };
        let said_created_at = match operation {
            Operation::Created => self.event.created_at.or(self.event.reported_at),
            _ => self.event.created_at,
        };
        let texts = merge_texts(&previous.texts, std::mem::take(&mut self.event.texts));
        let applied = if repeat::says_the_same(&previous.texts, &texts) { Applied::Repeated } else { Applied::Updated };
        let texts = match applied {
            Applied::Repeated => keep_data_as_it_stands(&previous.texts, texts),
            _ => texts,
        };
        let created_at = known_created_at.or(said_created_at);
        let lifecycle = Lifecycle::Live { created_at, updated_at: self.event.reported_at };
        (self.state(lifecycle, texts, Some(previous)), applied)
    }

    /// F10 to F12, F16: whatever else the event carries, it deletes.
    fn delete(self, previous: Option<&State>) -> (State, Applied) {
        let Some(previous) = previous else {
            let lifecycle = Lifecycle::Deleted { deleted_at: Some(self.deleted_at()) };
            let texts = only_event_id(&self.event.texts);
            return (self.state(lifecycle, texts, None), Applied::DeletedUnknown);
        };
        if !previous.is_live() {
            // Only the ids move: forgetting this one would let its redelivery delete a later life.
            let mut state = previous.clone();
            state.seen = self.seen;
            state.last = LastEvent { coordinates: self.event.order.coordinates, epoch: self.epoch, ..previous.last };
            return (state, Applied::DeletedAgain);
        }
        let lifecycle = Lifecycle::Deleted { deleted_at: Some(self.deleted_at()) };
        let texts = tombstone_texts(&previous.texts, &self.event.texts);
        (self.state(lifecycle, texts, Some(previous)), Applied::Deleted)
    }

    fn deleted_at(&self) -> Timestamp {
        let from_id = self.event.id_time_ms().and_then(|ms| i64::try_from(ms).ok());
        Timestamp::from_millis(from_id.unwrap_or(self.event.observed_ms))
    }

    fn state(self, lifecycle: Lifecycle, texts: Texts, previous: Option<&State>) -> State {
        State {
            id: self.event.id,
            lifecycle,
            uncommon: self.uncommon(previous, &texts),
            texts,
            last: LastEvent {
                id: self.event.event_id,
                coordinates: self.event.order.coordinates,
                observed_ms: self.event.observed_ms,
                epoch: self.epoch,
            },
            seen: self.seen,
        }
    }

    /// When an id without a time was met, and the reporter keys that were held before this one.
    fn uncommon(&self, previous: Option<&State>, texts: &Texts) -> Option<Box<Uncommon>> {
        let Some(previous) = previous else {
            if self.event.id.is_v7() {
                return None;
            }
            let first_met_ms = Some(plausible_ms(self.event.observed_ms).unwrap_or(self.epoch));
            return Some(Box::new(Uncommon { first_met_ms, former_keys: Vec::new() }));
        };
        let same_key =
            |other: &Texts, one: &Texts| REPORTER_KEY.iter().all(|field| other.get(*field) == one.get(*field));
        let had_key = previous.texts.get(Field::LocalResourceId).is_some();
        if !had_key || same_key(&previous.texts, texts) {
            return previous.uncommon.clone();
        }
        let mut uncommon = previous.uncommon.clone().unwrap_or_default();
        let former = &mut uncommon.former_keys;
        former.retain(|key| !same_key(key, texts) && !same_key(key, &previous.texts));
        if former.len() == FORMER_KEYS_MAX {
            former.remove(0);
        }
        let key = Field::ALL.map(|field| previous.texts.get(field).filter(|_| REPORTER_KEY.contains(&field)));
        former.push(Texts::build(key).expect("a part of texts that fitted"));
        Some(uncommon)
    }
}

/// The report's texts over the known ones: workspace and data are kept where not said (F5, F6), the version goes with
/// the data (F9), everything else is replaced. Another reporter key starts a report of its own (M12).
fn merge_texts(known: &Texts, said: Texts) -> Texts {
    let says_data = said.get(Field::Data).is_some();
    if says_data && said.get(Field::WorkspaceId).is_some() {
        // What nearly every report does.
        return said;
    }
    let same_report = REPORTER_KEY.iter().all(|field| known.get(*field) == said.get(*field));
    let merged = Texts::build(Field::ALL.map(|field| match field {
        Field::WorkspaceId => said.get(field).or_else(|| known.get(field)),
        Field::Data | Field::ReporterVersion if same_report && !says_data => {
            said.get(field).or_else(|| known.get(field))
        }
        _ => said.get(field),
    }));
    // Both were within the limits of their own; together they can only pass them by a hair, and then the event's own
    // texts are what was said last.
    merged.unwrap_or(said)
}

/// A repeat may spell its data otherwise (order of keys, null for absent): what stands stays, so that nothing moves
/// downstream.
fn keep_data_as_it_stands(known: &Texts, said: Texts) -> Texts {
    if known.get(Field::Data) == said.get(Field::Data) {
        return said;
    }
    let fields = Field::ALL.map(|field| match field {
        Field::Data => known.get(field),
        _ => said.get(field),
    });
    Texts::build(fields).unwrap_or_else(|TextsTooLong| said.clone())
}

/// What a tombstone keeps: type, reporter key, last workspace; and the text id of the delete.
fn tombstone_texts(known: &Texts, event: &Texts) -> Texts {
    let fields = Field::ALL.map(|field| match field {
        Field::ResourceType
        | Field::WorkspaceId
        | Field::ReporterType
        | Field::ReporterInstanceId
        | Field::LocalResourceId => known.get(field),
        Field::EventIdText => event.get(field),
        Field::ApiHref | Field::ConsoleHref | Field::ReporterVersion | Field::Data => None,
    });
    Texts::build(fields).unwrap_or_default()
}

fn only_event_id(event: &Texts) -> Texts {
    let fields = Field::ALL.map(|field| match field {
        Field::EventIdText => event.get(field),
        _ => None,
    });
    Texts::build(fields).unwrap_or_default()
}

/// Whether an id lies ahead of its record's timestamp by more than the tolerance. A timestamp that cannot be one
/// judges nothing (K22).
fn is_from_the_future(id: EventId, observed_ms: i64, rules: &Rules) -> bool {
    let (Some(observed), Some(ms)) = (plausible_ms(observed_ms), id.time_ms()) else { return false };
    ms > observed.saturating_add(rules.clock_skew_tolerance_ms)
}

#[cfg(test)]
mod tests;
