//! What became of one thing in the recent past: the rows of a view between two instants, the states of a resource.
//!
//! In: changes as they are kept (`history`), the batches of a read view, which tell the epochs of history apart. Out: both
//! as of epochs that were shown. Not here: how long they are kept, pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::history::{NotKept, shown_at};
use super::publisher::Publisher;
use super::view::ReadView;
use crate::dataflow::{Batch, Diff, Row as Key, ViewId};
use crate::model::{Epoch, ResourceId, State};
use crate::sql::Row;

/// What makes a view at one instant of what it was at another.
#[derive(Debug)]
pub struct Difference {
    /// The epochs between which it lies, which were shown,
    pub from: Epoch,
    /// and the second no earlier than the first.
    pub to: Epoch,
    /// From here on the changes of the view are kept.
    pub since: Epoch,
    /// The rows that left and came, each once with how often, in order.
    pub rows: Vec<(Row, Diff)>,
}

/// How a resource was from an epoch on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFrom {
    /// The epoch in which it was first shown so.
    pub epoch: Epoch,
    /// Live or deleted; none where nothing was known of it.
    pub state: Option<Arc<State>>,
    /// Who had its place, if it was an orphan.
    pub orphaned_by: Option<ResourceId>,
}

impl Publisher {
    /// What the rows of a view were at `from`, or where what is kept of it begins, and no more at `to`, or `view`; and the
    /// reverse. Instants are those that were shown last by then.
    pub fn difference(
        &self,
        view: &ReadView,
        id: ViewId,
        from: Option<Epoch>,
        to: Option<Epoch>,
    ) -> Result<Difference, NotKept> {
        let (history, shown) = (self.history(), view.epoch());
        let since = history.changes_since(id).filter(|since| *since <= shown).unwrap_or(shown);
        let shown_by = |asked: Epoch| {
            if asked > shown {
                return Err(NotKept::After { shown });
            }
            let epoch = history.binding_at(asked).map(|binding| binding.epoch).filter(|epoch| *epoch >= since);
            epoch.ok_or(NotKept::Before { since })
        };
        let (from, to) = (from.map_or(Ok(since), shown_by)?, to.map_or(Ok(shown), shown_by)?);
        let mut sums: BTreeMap<Row, Diff> = BTreeMap::new();
        if from < to {
            for (row, diff) in history.rows_changed(id, from, to)?.into_iter().flat_map(|(_, rows)| rows) {
                *sums.entry(row).or_default() += diff;
            }
        }
        let rows = sums.into_iter().filter(|(_, diff)| *diff != 0).collect();
        Ok(Difference { from, to, since, rows })
    }

    /// How a resource was from each epoch on in which that changed, oldest first; the first is how it was where history
    /// begins, which is told too. Empty where nothing was known of it all the time.
    pub fn states_from(&self, view: &ReadView, id: ResourceId) -> (Epoch, Vec<StateFrom>) {
        let epochs = self.history().epochs_from(view.since(), view.epoch());
        let since = epochs.first().copied().unwrap_or(view.epoch());
        (since, view.states_at(id, &epochs))
    }
}

impl ReadView {
    /// How a resource was from each of some epochs on, where that was not as before. They are all that were shown since
    /// the first one.
    fn states_at(&self, id: ResourceId, epochs: &[Epoch]) -> Vec<StateFrom> {
        let Some(owner) = self.owner(id) else { return Vec::new() };
        let (mut states, mut orphans) = (changes(&owner.states, &id, epochs), changes(&owner.orphans, &id, epochs));
        let mut changed: Vec<Epoch> = states.keys().chain(orphans.keys()).copied().collect();
        changed.sort_unstable();
        changed.dedup();
        let (mut held, mut held_by) = (BTreeMap::new(), BTreeMap::new());
        let mut all: Vec<StateFrom> = Vec::new();
        for epoch in changed {
            add(&mut held, states.remove(&epoch));
            add(&mut held_by, orphans.remove(&epoch));
            assert!(held.len() <= 1, "a resource has one state or none");
            let state = held.keys().next().map(|state| Arc::clone(*state));
            let orphaned_by = held_by.keys().next_back().map(|id| **id);
            let is_as_before = match all.last() {
                Some(last) => last.state == state && last.orphaned_by == orphaned_by,
                None => state.is_none(),
            };
            if !is_as_before {
                all.push(StateFrom { epoch, state, orphaned_by });
            }
        }
        all
    }
}

/// What changed of a key by the epoch in which that was first shown; what came before the first one is part of it.
fn changes<'a, K: Key, V: Key>(
    batches: &'a [Batch<K, V>],
    key: &K,
    epochs: &[Epoch],
) -> BTreeMap<Epoch, Vec<(&'a V, Diff)>> {
    let mut changes: BTreeMap<Epoch, Vec<(&V, Diff)>> = BTreeMap::new();
    let Some(last) = epochs.last().copied() else { return changes };
    for batch in batches {
        let Ok(index) = batch.keys().binary_search(key) else { continue };
        for (value, time, diff) in batch.updates_of(index).filter(|(_, time, _)| *time <= last) {
            changes.entry(shown_at(epochs, time, last)).or_default().push((value, diff));
        }
    }
    changes
}

/// Adds up what is held.
fn add<'a, V: Key>(held: &mut BTreeMap<&'a V, Diff>, changes: Option<Vec<(&'a V, Diff)>>) {
    for (value, diff) in changes.into_iter().flatten() {
        *held.entry(value).or_default() += diff;
    }
    held.retain(|_, count| *count != 0);
}
