//! One instant: the batches of all workers, read at one epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catalog::{Catalog, Gate};
use super::history::Changed;
use crate::dataflow::{Batch, Binding, Cut, Dimension, HashKeys, NewestEvent, ReporterKeyHash, Row, ViewId};
use crate::model::{Epoch, Position, QuarantineEntry, ResourceId, State};

/// Everything as it was at an epoch.
#[derive(Debug)]
pub struct ReadView {
    epoch: Epoch,
    position: Arc<Position>,
    incarnation: u64,
    whole_at: Option<Instant>,
    newest_event: Option<NewestEvent>,
    cuts: Arc<[Cut]>,
    catalog: Arc<Catalog>,
    detached: Arc<BTreeSet<ViewId>>,
    suspended: Arc<BTreeMap<ViewId, Arc<str>>>,
    pub(super) changed: Arc<Changed>,
}

impl ReadView {
    pub(super) fn new(binding: Binding, cuts: Vec<Cut>, gate: &Gate, changed: Arc<Changed>) -> Self {
        let Binding { epoch, position, incarnation, polled_at: _, whole_at, newest_event } = binding;
        let (catalog, detached) = (Arc::clone(&gate.shown), Arc::clone(&gate.detached));
        let suspended = Arc::clone(&gate.suspended);
        let cuts = cuts.into();
        Self { epoch, position, incarnation, whole_at, newest_event, cuts, catalog, detached, suspended, changed }
    }

    /// Everything as it was at the earlier epoch of a binding, which the batches of this one still tell apart.
    pub(super) fn at(&self, binding: Binding) -> Self {
        let Binding { epoch, position, incarnation, polled_at: _, whole_at, newest_event } = binding;
        assert!(self.since() <= epoch && epoch <= self.epoch, "an instant that is kept");
        let (catalog, detached) = (Arc::clone(&self.catalog), Arc::clone(&self.detached));
        let (suspended, changed) = (Arc::clone(&self.suspended), Arc::clone(&self.changed));
        let cuts = Arc::clone(&self.cuts);
        Self { epoch, position, incarnation, whole_at, newest_event, cuts, catalog, detached, suspended, changed }
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How far the log was read at the epoch.
    pub fn position(&self) -> &Arc<Position> {
        &self.position
    }

    /// Which life of the state it is of.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The newest event that it holds, by when it happened.
    pub fn newest_event(&self) -> Option<NewestEvent> {
        self.newest_event
    }

    /// How long ago it was all that the log had, as far as was known of it; none where it never was. It grows while the
    /// log cannot be heard, or has more than was read.
    pub fn age(&self) -> Option<Duration> {
        self.whole_at.map(|whole_at| whole_at.elapsed())
    }

    /// The views that can be read at it.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Whether a view was left behind: it is not complete at this epoch.
    pub fn is_detached(&self, id: ViewId) -> bool {
        self.detached.contains(&id)
    }

    /// The views that were left behind for so long that they are given up, or read one that is: computed no more.
    pub fn suspended(&self) -> impl Iterator<Item = ViewId> {
        self.suspended.keys().copied()
    }

    /// Whether a view is given up.
    pub fn is_suspended(&self, id: ViewId) -> bool {
        self.suspended.contains_key(&id)
    }

    /// Whether a view of this name was given up before it was ever shown.
    pub fn was_never_shown(&self, name: &str) -> bool {
        self.catalog.view(name).is_none() && self.suspended.values().any(|suspended| **suspended == *name)
    }

    pub(super) fn cuts(&self) -> &[Cut] {
        &self.cuts
    }

    /// The cut of the worker that owns `id`.
    pub(super) fn owner(&self, id: ResourceId) -> Option<&Cut> {
        let workers = u64::try_from(self.cuts.len()).ok().filter(|workers| *workers > 0)?;
        self.cuts.get(usize::try_from(id.shard_hash() % workers).ok()?)
    }

    /// The state of a resource, live or deleted.
    pub fn state(&self, id: ResourceId) -> Option<&Arc<State>> {
        one_value(&self.owner(id)?.states, &id, self.epoch)
    }

    /// The id that took the place of a resource, if it is an orphan (F14); the greatest where it is one under several
    /// reporter keys that it held.
    pub fn orphaned_by(&self, id: ResourceId) -> Option<ResourceId> {
        values(&self.owner(id)?.orphans, &id, self.epoch).max().copied()
    }

    /// All ids that took the place of a resource, each once.
    pub(super) fn all_orphaned_by(&self, id: ResourceId) -> Vec<(ResourceId, isize)> {
        let Some(owner) = self.owner(id) else { return Vec::new() };
        values(&owner.orphans, &id, self.epoch).map(|by| (*by, 1)).collect()
    }

    /// The live resources that hold a reporter key with this local id, in order of id; by hash, to be checked.
    pub(super) fn holders_of_local_id(&self, keys: HashKeys, local_resource_id: &str) -> Vec<ResourceId> {
        let local = keys.local_id(local_resource_id);
        let first = ReporterKeyHash { local, whole: 0 };
        let mut counts = std::collections::BTreeMap::new();
        for batch in self.cuts.iter().flat_map(|cut| &cut.holders) {
            let start = batch.keys().partition_point(|key| *key < first);
            for index in (start..batch.keys().len()).take_while(|index| batch.keys()[*index].local == local) {
                for (holder, count) in batch.counted(index, self.epoch) {
                    *counts.entry(holder.id).or_insert(0) += count;
                }
            }
        }
        counts.into_iter().filter(|(_, count)| *count > 0).map(|(id, _)| id).collect()
    }

    /// The quarantine, in order of coordinates.
    pub fn quarantine(&self) -> Vec<Arc<QuarantineEntry>> {
        let mut counts: Vec<(&Arc<QuarantineEntry>, isize)> = Vec::new();
        for batch in self.cuts.iter().flat_map(|cut| &cut.quarantine) {
            counts.extend((0..batch.keys().len()).flat_map(|index| batch.counted(index, self.epoch)));
        }
        counts.sort_by(|a, b| (a.0.coordinates(), a.0).cmp(&(b.0.coordinates(), b.0)));
        let mut entries = Vec::new();
        for group in counts.chunk_by(|a, b| a.0 == b.0) {
            if group.iter().map(|(_, count)| count).sum::<isize>() > 0 {
                entries.push(Arc::clone(group[0].0));
            }
        }
        entries
    }

    /// All states, live and deleted, in order of id. Reads everything: for dumps and tests.
    pub fn all_states(&self) -> Vec<Arc<State>> {
        let ids = self.cuts.iter().flat_map(|cut| &cut.states).flat_map(|batch| batch.keys().iter().copied());
        let ids: std::collections::BTreeSet<ResourceId> = ids.collect();
        ids.into_iter().filter_map(|id| self.state(id).cloned()).collect()
    }

    /// How many resources are live and current, live and orphaned, deleted. Reads everything.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for state in self.all_states() {
            match (state.is_live(), self.orphaned_by(state.id)) {
                (true, None) => census.resources += 1,
                (true, Some(_)) => census.orphaned += 1,
                (false, _) => census.deleted += 1,
            }
        }
        census
    }

    /// Updates and batches held by each arrangement, for people to look at.
    pub fn holdings(&self) -> Vec<(&'static str, usize, usize)> {
        fn sum<'a, K: Row, V: Row>(batches: impl Iterator<Item = &'a Batch<K, V>>) -> (usize, usize) {
            batches.fold((0, 0), |(updates, batches), batch| (updates + batch.updates(), batches + 1))
        }
        let (states, state_batches) = sum(self.cuts.iter().flat_map(|cut| &cut.states));
        let (index, index_batches) = sum(self.cuts.iter().flat_map(|cut| &cut.index));
        let (holders, holder_batches) = sum(self.cuts.iter().flat_map(|cut| &cut.holders));
        let (orphans, orphan_batches) = sum(self.cuts.iter().flat_map(|cut| &cut.orphans));
        let (rejects, reject_batches) = sum(self.cuts.iter().flat_map(|cut| &cut.quarantine));
        let (kept, kept_batches) = sum(self.cuts.iter().flat_map(|cut| &cut.kept));
        let (seen, seen_batches) = sum(self.cuts.iter().flat_map(|cut| &cut.seen_rejects));
        vec![
            ("states", states, state_batches),
            ("index", index, index_batches),
            ("holders", holders, holder_batches),
            ("orphans", orphans, orphan_batches),
            ("quarantine", rejects, reject_batches),
            ("kept", kept, kept_batches),
            ("seen_rejects", seen, seen_batches),
        ]
    }

    /// Whether a state is listed under a value of a dimension.
    pub(super) fn matches(state: &State, dimension: Dimension, values: &[String]) -> bool {
        values.is_empty() || state.text(dimension.field()).is_some_and(|text| values.iter().any(|value| value == text))
    }
}

/// Counts of resources.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Live and current.
    pub resources: usize,
    /// Live, and another id holds their reporter key.
    pub orphaned: usize,
    /// Deleted and remembered.
    pub deleted: usize,
}

/// The values that a key has at `epoch`.
pub(super) fn values<'a, K: Row, V: Row>(
    batches: &'a [Batch<K, V>],
    key: &K,
    epoch: Epoch,
) -> impl Iterator<Item = &'a V> {
    let mut counts: Vec<(&V, isize)> = Vec::new();
    for batch in batches {
        let Ok(index) = batch.keys().binary_search(key) else { continue };
        for (value, count) in batch.counted(index, epoch) {
            match counts.iter_mut().find(|(known, _)| *known == value) {
                Some((_, sum)) => *sum += count,
                None => counts.push((value, count)),
            }
        }
    }
    counts.into_iter().filter(|(_, count)| *count != 0).map(|(value, count)| {
        assert!(count > 0, "a value is there or it is not");
        value
    })
}

/// The one value that a key has at `epoch` in an arrangement where it has at most one.
fn one_value<'a, K: Row, V: Row>(batches: &'a [Batch<K, V>], key: &K, epoch: Epoch) -> Option<&'a V> {
    let mut present = values(batches, key, epoch);
    let value = present.next()?;
    assert!(present.next().is_none(), "a key has one value or none");
    Some(value)
}
