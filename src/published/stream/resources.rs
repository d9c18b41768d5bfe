//! What became of resources, epoch by epoch: each before and after, out of the changes that are kept alone.
//!
//! What a resource was at an epoch is what it is now without what changed since, so nothing has to be kept for it but
//! changes: a stream goes on while the log is caught up with, when no instants are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dataflow::Diff;
use crate::model::{Epoch, Field, Lifecycle, ResourceId, State};
use crate::published::history::{NotKept, TableChanges, shown_at};
use crate::published::{Filter, Publisher, ReadView};

/// A resource as tables show it: its state, live or deleted, and who took its place.
pub type Seen = (Arc<State>, Option<ResourceId>);

/// A resource of which something changed.
#[derive(Debug, Clone)]
pub struct ResourceChange {
    /// Which.
    pub id: ResourceId,
    /// As it was before the epoch.
    pub before: Option<Seen>,
    /// As it was at the epoch.
    pub after: Option<Seen>,
}

/// What changed in an epoch, in order of id.
pub type ResourceChanges = (Epoch, Vec<ResourceChange>);

/// What somebody is told of a resource.
#[derive(Debug, Clone)]
pub struct ResourceImage {
    /// Which.
    pub id: ResourceId,
    /// As it is; none where it is not there, or not among those that were chosen.
    pub resource: Option<Seen>,
}

impl ResourceChange {
    /// What is told of it to somebody who chose these; nothing where nothing of it changed for them. A repeat (F20) changes
    /// nothing but when the resource was updated and by which event.
    pub fn image(&self, filter: &Filter, with_repeats: bool) -> Option<ResourceImage> {
        let chosen = |seen: &Option<Seen>| {
            seen.clone().filter(|(state, orphaned_by)| filter.lets_through(state, orphaned_by.is_some()))
        };
        let (before, after) = (chosen(&self.before), chosen(&self.after));
        match (&before, &after) {
            (None, None) => return None,
            (Some(before), Some(after)) if !with_repeats && is_repeat(before, after) => return None,
            _ => {}
        }
        Some(ResourceImage { id: self.id, resource: after })
    }
}

/// Whether one says what the other said.
fn is_repeat((before, before_orphan): &Seen, (after, after_orphan): &Seen) -> bool {
    let created = |state: &State| match state.lifecycle {
        Lifecycle::Live { created_at, .. } => created_at,
        Lifecycle::Deleted { .. } => None,
    };
    let said = Field::ALL.iter().filter(|field| **field != Field::EventIdText);
    before_orphan == after_orphan
        && created(before) == created(after)
        && said.into_iter().all(|field| before.text(*field) == after.text(*field))
}

/// What changed over all of some epochs, in order of id.
pub fn coalesced(changes: Vec<ResourceChanges>) -> Vec<ResourceChange> {
    let mut all: BTreeMap<ResourceId, ResourceChange> = BTreeMap::new();
    for change in changes.into_iter().flat_map(|(_, changes)| changes) {
        match all.get_mut(&change.id) {
            Some(known) => known.after = change.after,
            None => drop(all.insert(change.id, change)),
        }
    }
    all.into_values().collect()
}

impl Publisher {
    /// The resources of which something changed after one epoch until another one, which were shown, epoch by epoch.
    pub fn resources_followed(&self, after: Epoch, until: Epoch) -> Result<Vec<ResourceChanges>, NotKept> {
        let now = self.view();
        let all = self.history().table_changes(after, now.epoch())?;
        Ok(followed(&now, &all, after, until))
    }
}

/// Values with how often each is there.
type Counted<V> = Vec<(V, Diff)>;

/// What was told of a resource, by the epoch in which it is first seen.
#[derive(Default)]
struct Told {
    states: BTreeMap<Epoch, Counted<Arc<State>>>,
    orphans: BTreeMap<Epoch, Counted<ResourceId>>,
}

fn followed(now: &ReadView, all: &TableChanges, after: Epoch, until: Epoch) -> Vec<ResourceChanges> {
    let mut told: BTreeMap<ResourceId, Told> = BTreeMap::new();
    let epoch_of = |time| (after < time && time <= now.epoch()).then(|| shown_at(&all.epochs, time, now.epoch()));
    for batch in &all.states {
        batch.each(|id, state, time, diff| {
            if let Some(epoch) = epoch_of(time) {
                let states = &mut told.entry(*id).or_default().states;
                states.entry(epoch).or_default().push((Arc::clone(state), diff));
            }
        });
    }
    for batch in &all.orphans {
        batch.each(|id, by, time, diff| {
            if let Some(epoch) = epoch_of(time) {
                told.entry(*id).or_default().orphans.entry(epoch).or_default().push((*by, diff));
            }
        });
    }
    let mut changes: BTreeMap<Epoch, Vec<ResourceChange>> = BTreeMap::new();
    for (id, told) in told {
        let mut states: Counted<Arc<State>> = now.state(id).map(|state| (Arc::clone(state), 1)).into_iter().collect();
        let mut orphans = now.all_orphaned_by(id);
        let epochs: std::collections::BTreeSet<Epoch> =
            told.states.keys().chain(told.orphans.keys()).copied().collect();
        for epoch in epochs.into_iter().rev() {
            let after = seen(&states, &orphans);
            told.states.get(&epoch).into_iter().for_each(|updates| undo(&mut states, updates));
            told.orphans.get(&epoch).into_iter().for_each(|updates| undo(&mut orphans, updates));
            if epoch <= until {
                let change = ResourceChange { id, before: seen(&states, &orphans), after };
                changes.entry(epoch).or_default().push(change);
            }
        }
    }
    changes.into_iter().collect()
}

/// Takes back what was told.
fn undo<V: Clone + PartialEq>(values: &mut Counted<V>, updates: &Counted<V>) {
    for (value, diff) in updates {
        match values.iter().position(|(known, _)| known == value) {
            Some(place) => values[place].1 -= diff,
            None => values.push((value.clone(), -diff)),
        }
    }
    values.retain(|(_, count)| *count != 0);
}

fn seen(states: &Counted<Arc<State>>, orphans: &Counted<ResourceId>) -> Option<Seen> {
    assert!(states.len() <= 1 && states.iter().all(|(_, count)| *count == 1), "a key has one value or none");
    let (state, _) = states.first()?;
    Some((Arc::clone(state), orphans.iter().map(|(by, _)| *by).max()))
}
