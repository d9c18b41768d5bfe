//! One worker's resources: folds the events of an epoch and says what that changes in every arrangement.
//!
//! Promises: the changes of an epoch depend on its events and the state before it alone, not on their batches; a
//! resource that ends an epoch as it began it changes nothing; a tombstone is forgotten `tombstone_retention_ms` after
//! the epoch that made it, unless it is *pinned*: an older holder of its reporter key exists, which would become
//! current again without it (F14). No timely here: [`super::upsert`] calls this in order of time, and so can a test.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ahash::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use serde::{Deserialize, Serialize};

use super::counters::{self, Counters};
use super::folded::Folded;
use super::index::{HashKeys, Holder, IndexKey, ReporterKeyHash};
use super::ledger::{Ledger, QuarantineLimits, QuarantineUpdates, RejectKey, SeenRejectUpdates};
use super::restored::Restored;
use super::resubmission::{self, Resubmitted};
use super::shared_batch::{Diff, Update};
use crate::fold::{self, Outcome, Rules};
use crate::model::{
    Applied, Epoch, Event, EventOrder, Field, Ignored, IgnoredReason, Lifecycle, Operation, QuarantineStatus,
    REPORTER_KEY, Reject, ResourceId, State,
};

/// An event or a reject on its way to the shard that owns its resource.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Item {
    /// The resource; for a reject without one, whatever spreads it well and the same at every replay.
    pub(super) route: ResourceId,
    pub(super) order: EventOrder,
    pub(super) body: Body,
}

/// What an item carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Body {
    Event(Box<Event>),
    Reject(Box<Reject>),
    Resubmitted(Box<Resubmitted>),
}

/// What a shard is set up with.
#[derive(Debug, Clone, Copy)]
pub struct ShardConfig {
    /// The duplicate rule's parameters.
    pub rules: Rules,
    /// How long a tombstone is kept after the epoch that made it.
    pub tombstone_retention_ms: u64,
    /// The quarantine's bounds, of all shards together.
    pub quarantine: QuarantineLimits,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            tombstone_retention_ms: 7 * 86_400_000,
            quarantine: QuarantineLimits::default(),
        }
    }
}

/// A tombstone that nothing pins any more is forgotten this much later. The news comes back through the dataflow after
/// its epoch, so what it causes needs an epoch that is still open.
pub(super) const RELEASE_DELAY_MS: u64 = 3_600_000;

/// Of so many items the resources are looked up before the first of them is folded.
const LOOKED_UP_AHEAD: usize = 16;

/// Until when a tombstone is kept beyond its time: an epoch, or [`WHILE_PINNED`].
pub type KeptUntil = Epoch;
/// Kept for as long as it is pinned.
pub const WHILE_PINNED: KeptUntil = Epoch::MAX;

/// Changes of the arrangements.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    pub(super) states: Vec<Update<ResourceId, Arc<State>>>,
    pub(super) index: Vec<Update<IndexKey, ResourceId>>,
    pub(super) holders: Vec<Update<ReporterKeyHash, Holder>>,
    pub(super) quarantine: QuarantineUpdates,
    pub(super) seen_rejects: SeenRejectUpdates,
    pub(super) kept: Vec<Update<ResourceId, KeptUntil>>,
    pub(super) ignored: Vec<Ignored>,
    pub(super) folded: Vec<Folded>,
}

/// Counts of one call, added to the shared counters at its end.
#[derive(Default)]
struct Tally {
    applied: [u64; Applied::ALL.len()],
    ignored: [u64; IgnoredReason::ALL.len()],
    let_go: u64,
    expired: u64,
    folded: Option<Folded>,
}

/// The resources of one worker.
pub(super) struct Shard {
    config: ShardConfig,
    keys: HashKeys,
    counters: Arc<Counters>,
    hasher: RandomState,
    states: HashTable<Arc<State>>,
    /// How many older holders of its reporter key a resource stands before.
    pins: HashMap<ResourceId, Diff>,
    /// When tombstones are to be forgotten.
    due: BTreeMap<Epoch, Vec<ResourceId>>,
    /// Tombstones whose time is over and that are pinned.
    overdue: BTreeSet<ResourceId>,
    /// Tombstones whose last pin went after their time was over, with when they are to be forgotten. Their entries in
    /// `due` can be told from a state's own only so.
    released: BTreeSet<(ResourceId, Epoch)>,
    /// When all pins of what was restored have come back. Until then they come in any order.
    settles_at: Option<Epoch>,
    ledger: Ledger,
    tally: Tally,
}

impl Shard {
    pub(super) fn new(config: ShardConfig, shards: usize, keys: HashKeys, counters: Arc<Counters>) -> Self {
        Self {
            config,
            keys,
            counters,
            hasher: RandomState::new(),
            states: HashTable::new(),
            pins: HashMap::new(),
            due: BTreeMap::new(),
            overdue: BTreeSet::new(),
            released: BTreeSet::new(),
            settles_at: None,
            ledger: Ledger::new(config.quarantine.share(shards)),
            tally: Tally::default(),
        }
    }

    /// The next epoch at which a tombstone is to be forgotten.
    pub(super) fn next_due(&self) -> Option<Epoch> {
        self.due.first_key_value().map(|(epoch, _)| *epoch)
    }

    /// Folds the events of `epoch`. They are sorted here; epochs come in order.
    pub(super) fn fold_epoch(&mut self, epoch: Epoch, items: &mut Vec<Item>, out: &mut Deltas) {
        let began = Instant::now();
        items.sort_unstable_by_key(|item| (item.route, item.order));
        let mut items = items.drain(..);
        // As many items are left when those are used up that were brought near.
        let mut left_then = items.len();
        loop {
            if items.len() <= left_then {
                let (ahead, _) = items.as_slice().split_at(items.len().min(LOOKED_UP_AHEAD));
                self.bring_near(ahead);
                left_then = items.len() - ahead.len();
            }
            let Some(first) = items.next() else { break };
            let id = first.route;
            let before = self.state(id).cloned();
            let mut now = before.clone();
            self.fold_item(first.body, epoch, &mut now, out);
            while items.as_slice().first().is_some_and(|item| item.route == id)
                && let Some(next) = items.next()
            {
                self.fold_item(next.body, epoch, &mut now, out);
            }
            self.put(id, before, now, epoch, out);
        }
        drop(items);
        out.folded.extend(self.tally.folded.take());
        self.count();
        self.counters.stages.fold.record(began.elapsed(), 1);
    }

    fn state(&self, id: ResourceId) -> Option<&Arc<State>> {
        self.states.find(self.hasher.hash_one(id), |state| state.id == id)
    }

    /// Has the processor fetch what is known of these resources: each lies somewhere else in a gigabyte, and is waited
    /// for when it is wanted alone, but many are fetched at once.
    fn bring_near(&self, items: &[Item]) {
        let fetched = |item: &Item| {
            let state = self.state(item.route)?;
            let text = state.texts.get(Field::ResourceType).and_then(|text| text.as_bytes().first().copied());
            Some((state.last.epoch, state.seen.recent.last().copied(), text))
        };
        for item in items {
            black_box(fetched(item));
        }
    }

    fn fold_item(&mut self, body: Body, epoch: Epoch, now: &mut Option<Arc<State>>, out: &mut Deltas) {
        match body {
            Body::Reject(reject) => self.reject(*reject, epoch, now.as_deref(), out),
            Body::Event(mut event) => drop(self.fold_event(&mut event, None, epoch, now, out)),
            Body::Resubmitted(resubmitted) => self.fold_again(*resubmitted, epoch, now, out),
        }
    }

    /// Folds an event; those entries of the quarantine that are older than `rejected`, or all, have had a newer one then.
    fn fold_event(
        &mut self,
        event: &mut Event,
        rejected: Option<&RejectKey>,
        epoch: Epoch,
        now: &mut Option<Arc<State>>,
        out: &mut Deltas,
    ) -> resubmission::Outcome {
        // Before the fold, which may take the texts.
        let says_everything = event.operation == Operation::Deleted
            || (event.text(Field::WorkspaceId).is_some() && event.text(Field::Data).is_some());
        let outcome = fold::fold(now.as_deref(), event, epoch, &self.config.rules);
        let applied = match outcome {
            Outcome::Ignored(reason) => {
                self.ignore(event, reason, epoch, out);
                return resubmission::Outcome::Ignored(reason);
            }
            Outcome::Applied { state, applied, let_go_within_tolerance } => {
                self.tally.let_go += u64::from(let_go_within_tolerance);
                *now = Some(Arc::new(state));
                applied
            }
        };
        self.tally.applied[applied as usize] += 1;
        Folded::note(&mut self.tally.folded, event, epoch);
        if applied == Applied::DeletedAgain {
            self.ignore(event, IgnoredReason::AlreadyDeleted, epoch, out);
        }
        if !self.ledger.is_empty() {
            self.ledger.supersede(event.id, says_everything, rejected, epoch, &mut out.quarantine);
        }
        resubmission::Outcome::Applied(applied)
    }

    /// Notes that an event changes nothing.
    fn ignore(&mut self, event: &Event, reason: IgnoredReason, epoch: Epoch, out: &mut Deltas) {
        self.tally.ignored[reason as usize] += 1;
        out.ignored.push(Ignored {
            reason,
            id: Some(event.id),
            event_id: event.event_id,
            event_id_text: event.text(Field::EventIdText).map(Box::from),
            coordinates: event.order.coordinates,
            epoch,
        });
    }

    /// Folds what was read again out of the quarantine, unless its resource has moved on since it was rejected.
    fn fold_again(&mut self, again: Resubmitted, epoch: Epoch, now: &mut Option<Arc<State>>, out: &mut Deltas) {
        let Resubmitted { number, entry, checksum, is_entry_here, event } = again;
        let found = self.ledger.find(&entry, checksum).filter(|_| is_entry_here);
        let Some(mut event) = event else {
            return found.into_iter().for_each(|(key, _)| self.ledger.remove(key, epoch, &mut out.quarantine));
        };
        let at = event.order.coordinates;
        let is_superseded = match is_entry_here {
            true => found.is_none_or(|(_, status)| status != QuarantineStatus::Open),
            false => now.as_deref().is_some_and(|state| {
                let last = state.last.coordinates;
                (last.topic, last.partition) == (at.topic, at.partition) && last.offset > at.offset
            }),
        };
        let outcome = match is_superseded {
            true => {
                self.ignore(&event, IgnoredReason::Superseded, epoch, out);
                resubmission::Outcome::Ignored(IgnoredReason::Superseded)
            }
            false => {
                let rejected = found.map_or(entry, |(key, _)| key);
                let outcome = self.fold_event(&mut event, Some(&rejected), epoch, now, out);
                self.ledger.remove(rejected, epoch, &mut out.quarantine);
                outcome
            }
        };
        self.counters.resubmitted.note(number, outcome);
    }

    /// A record that could not be read is one for the quarantine, unless the same event was folded before.
    fn reject(&mut self, reject: Reject, epoch: Epoch, now: Option<&State>, out: &mut Deltas) {
        counters::add(self.counters.rejected(reject.reason), 1);
        match (reject.event_id, now) {
            (Some(event_id), Some(state)) if state.seen.contains(event_id) => {
                let reason = IgnoredReason::Duplicate;
                self.tally.ignored[reason as usize] += 1;
                out.ignored.push(Ignored {
                    reason,
                    id: reject.id,
                    event_id: Some(event_id),
                    event_id_text: reject.event_id_text,
                    coordinates: reject.order.coordinates,
                    epoch,
                });
            }
            _ => self.ledger.reject(reject, epoch, &mut out.quarantine, &mut out.seen_rejects),
        }
    }

    /// Replaces the state of `id` and notes what changes in the arrangements.
    fn put(
        &mut self,
        id: ResourceId,
        before: Option<Arc<State>>,
        now: Option<Arc<State>>,
        epoch: Epoch,
        out: &mut Deltas,
    ) {
        let unchanged = match (&before, &now) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        if unchanged {
            return;
        }
        if let Some(state) = &now
            && matches!(state.lifecycle, Lifecycle::Deleted { .. })
        {
            self.due.entry(self.due_of(state)).or_default().push(id);
        }
        self.note_index(id, before.as_deref(), now.as_deref(), epoch, out);
        self.note_holder(before.as_deref(), now.as_deref(), epoch, out);
        if let Some(before) = before {
            out.states.push(((id, before), epoch, -1));
        }
        let hasher = &self.hasher;
        let entry = self.states.entry(hasher.hash_one(id), |state| state.id == id, |state| hasher.hash_one(state.id));
        match (entry, now) {
            (Entry::Occupied(mut slot), Some(state)) => {
                *slot.get_mut() = Arc::clone(&state);
                out.states.push(((id, state), epoch, 1));
            }
            (Entry::Vacant(slot), Some(state)) => {
                slot.insert(Arc::clone(&state));
                out.states.push(((id, state), epoch, 1));
            }
            (Entry::Occupied(slot), None) => drop(slot.remove()),
            (Entry::Vacant(_), None) => {}
        }
    }

    fn note_index(&self, id: ResourceId, before: Option<&State>, now: Option<&State>, epoch: Epoch, out: &mut Deltas) {
        let listed = |state: Option<&State>| state.map(|state| self.keys.index_keys(state)).unwrap_or_default();
        if let (Some(before), Some(now)) = (before, now)
            && before.is_live() == now.is_live()
            && super::Dimension::ALL.iter().all(|by| before.text(by.field()) == now.text(by.field()))
        {
            return;
        }
        for (left, came) in listed(before).into_iter().zip(listed(now)) {
            if left != came {
                out.index.extend(left.map(|key| ((key, id), epoch, -1)));
                out.index.extend(came.map(|key| ((key, id), epoch, 1)));
            }
        }
    }

    fn note_holder(&self, before: Option<&State>, now: Option<&State>, epoch: Epoch, out: &mut Deltas) {
        if let (Some(before), Some(now)) = (before, now)
            && REPORTER_KEY.iter().all(|field| before.text(*field) == now.text(*field))
        {
            return;
        }
        for (state, diff) in [(before, -1), (now, 1)] {
            let Some(state) = state else { continue };
            let holder = Holder::of(state);
            out.holders.extend(self.keys.reporter_keys(state).map(|key| ((key, holder), epoch, diff)));
        }
    }

    /// Notes that a resource stands before `diff` more older holders of its reporter key.
    pub(super) fn pin(&mut self, epoch: Epoch, id: ResourceId, diff: Diff, out: &mut Deltas) {
        let count = self.pins.entry(id).or_insert(0);
        *count += diff;
        if *count == 0 {
            self.pins.remove(&id);
            if self.settles_at.is_none_or(|settles_at| epoch >= settles_at) && self.overdue.remove(&id) {
                self.release(id, epoch, out);
            }
        }
    }

    /// Notes when a tombstone is to be forgotten whose last pin went at `epoch`, after its time was over.
    fn release(&mut self, id: ResourceId, epoch: Epoch, out: &mut Deltas) {
        let release = epoch.saturating_add(RELEASE_DELAY_MS);
        self.due.entry(release).or_default().push(id);
        self.released.insert((id, release));
        out.kept.push(((id, WHILE_PINNED), epoch, -1));
        out.kept.push(((id, release), epoch, 1));
    }

    /// Whether a tombstone waits for a pin to be released.
    pub(super) fn has_overdue(&self) -> bool {
        !self.overdue.is_empty()
    }

    /// Forgets the tombstones whose time is over at `epoch`, which is the next due one.
    pub(super) fn expire(&mut self, epoch: Epoch, out: &mut Deltas) {
        if self.settles_at == Some(epoch) {
            self.settles_at = None;
            for id in self.overdue.extract_if(.., |id| !self.pins.contains_key(id)).collect::<Vec<_>>() {
                self.release(id, epoch, out);
            }
        }
        for id in self.due.remove(&epoch).unwrap_or_default() {
            if self.released.remove(&(id, epoch)) {
                out.kept.push(((id, epoch), epoch, -1));
            }
            // A later event may have made it something else since.
            let Some(state) = self.state(id).filter(|state| !state.is_live() && self.due_of(state) <= epoch).cloned()
            else {
                continue;
            };
            if !self.pins.contains_key(&id) {
                self.tally.expired += 1;
                self.put(id, Some(state), None, epoch, out);
            } else if self.overdue.insert(id) {
                out.kept.push(((id, WHILE_PINNED), epoch, 1));
            }
        }
        self.count();
    }

    /// When the time of a tombstone is over.
    fn due_of(&self, state: &State) -> Epoch {
        state.last.epoch.saturating_add(self.config.tombstone_retention_ms)
    }

    /// Takes back what a snapshot kept, at `epoch`, before any event. Says everything anew, because no arrangement holds
    /// it yet.
    pub(super) fn restore(&mut self, restored: Restored, epoch: Epoch, out: &mut Deltas) {
        self.settles_at = Some(restored.epoch + 1);
        self.due.entry(restored.epoch + 1).or_default();
        for (id, until) in restored.kept {
            if until == WHILE_PINNED {
                self.overdue.insert(id);
            } else {
                self.due.entry(until).or_default().push(id);
                self.released.insert((id, until));
            }
            out.kept.push(((id, until), epoch, 1));
        }
        out.folded.extend(Folded::restored(restored.states.iter().map(|state| &state.last), epoch));
        for state in restored.states {
            let id = state.id;
            let kept = self.overdue.contains(&id) || self.released.range((id, 0)..=(id, Epoch::MAX)).next().is_some();
            if !state.is_live() && !kept {
                // One that is over already is so by a retention that was shortened since.
                let due = self.due_of(&state).max(restored.epoch + 1);
                self.due.entry(due).or_default().push(id);
            }
            self.note_index(id, None, Some(&state), epoch, out);
            self.note_holder(None, Some(&state), epoch, out);
            out.states.push(((id, Arc::clone(&state)), epoch, 1));
            let hasher = &self.hasher;
            self.states.insert_unique(hasher.hash_one(id), state, |state| hasher.hash_one(state.id));
        }
        for (key, reject) in restored.seen_rejects {
            self.ledger.remember(key, reject, epoch, &mut out.seen_rejects);
        }
        for entry in restored.quarantine {
            self.ledger.admit(entry, epoch, &mut out.quarantine);
        }
    }

    fn count(&mut self) {
        let tally = std::mem::take(&mut self.tally);
        for applied in Applied::ALL {
            counters::add(self.counters.applied(applied), tally.applied[applied as usize]);
        }
        for reason in IgnoredReason::ALL {
            counters::add(self.counters.ignored(reason), tally.ignored[reason as usize]);
        }
        counters::add(&self.counters.let_go_within_tolerance, tally.let_go);
        counters::add(&self.counters.tombstones_expired, tally.expired);
        let ledger = std::mem::take(&mut self.ledger.tally);
        counters::add(&self.counters.rejected_again, ledger.again);
        counters::add(&self.counters.quarantine_evicted, ledger.evicted);
        counters::add(&self.counters.quarantine_cleared, ledger.cleared);
    }
}
