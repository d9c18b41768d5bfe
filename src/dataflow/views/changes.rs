//! What changed in the tables: each resource before and after, each reject that came or went.
//!
//! A resource stands in one table or another by its state and by whether it is an orphan, which are told by two
//! arrangements; here they are brought together, epoch by epoch. Computed once for all scans of a worker.

use std::sync::Arc;

use timely::worker::Worker;

use super::tables::{TableBatches, value_at};
use super::tail::Tail;
use crate::dataflow::graph::Tables;
use crate::dataflow::shared_batch::{Batch, Diff};
use crate::model::{Coordinates, Epoch, QuarantineEntry, ResourceId, State};
use crate::sql::{Parts, Resource};

/// A resource at one epoch, as tables see it.
#[derive(Debug, Clone)]
pub(in crate::dataflow) struct Seen {
    pub(in crate::dataflow) state: Arc<State>,
    pub(in crate::dataflow) orphaned_by: Option<ResourceId>,
}

impl Seen {
    pub(in crate::dataflow) fn resource(&self) -> Resource<'_> {
        Resource { state: &self.state, orphaned_by: self.orphaned_by }
    }
}

/// One resource that changed at an epoch.
#[derive(Debug)]
pub(in crate::dataflow) struct Change {
    pub(in crate::dataflow) epoch: Epoch,
    pub(in crate::dataflow) before: Option<Seen>,
    pub(in crate::dataflow) after: Option<Seen>,
    /// The parts in which both differ; all of them where there is only one.
    pub(in crate::dataflow) parts: Parts,
}

/// What changed over some epochs.
#[derive(Debug, Default)]
pub(in crate::dataflow) struct Changes {
    /// In order of epoch.
    pub(in crate::dataflow) resources: Vec<Change>,
    pub(in crate::dataflow) rejects: Vec<(Arc<QuarantineEntry>, Epoch, Diff)>,
    /// All changes below this epoch have been told.
    pub(in crate::dataflow) upper: Epoch,
}

/// Follows what the tables are made of.
pub(in crate::dataflow) struct ChangeFeed {
    states: Tail<ResourceId, Arc<State>>,
    orphans: Tail<ResourceId, ResourceId>,
    quarantine: Tail<Coordinates, Arc<QuarantineEntry>>,
    upper: Epoch,
}

/// One thing that is told of a resource at an epoch.
enum Telling {
    /// This was its state before, or is after it.
    State(Arc<State>, Diff),
    /// Who took its place has changed.
    Orphan,
}

/// What is told of a resource at an epoch by its two arrangements.
#[derive(Default)]
struct Told {
    state_before: Option<Arc<State>>,
    state_after: Option<Arc<State>>,
    /// Whether anything was said about its state.
    state: bool,
    /// Whether anything was said about who took its place.
    orphan: bool,
}

impl ChangeFeed {
    /// Follows the tables of a worker.
    pub(in crate::dataflow) fn new(worker: &Worker, tables: &Tables) -> Self {
        let states = Tail::new(worker, &tables.states);
        let orphans = Tail::new(worker, &tables.orphans);
        let quarantine = Tail::new(worker, &tables.quarantine);
        Self { states, orphans, quarantine, upper: 0 }
    }

    /// Up to where changes have been told.
    pub(in crate::dataflow) fn upper(&self) -> Epoch {
        self.upper
    }

    /// The batches from which the tables at the last epoch that was told can be read.
    pub(in crate::dataflow) fn batches(&self) -> TableBatches {
        TableBatches {
            states: self.states.batches(),
            orphans: self.orphans.batches(),
            quarantine: self.quarantine.batches(),
        }
    }

    /// Passes over what has changed: nobody reads it.
    pub(in crate::dataflow) fn skip(&mut self) {
        let upper = self.states.poll().min(self.orphans.poll()).min(self.quarantine.poll());
        if upper > self.upper {
            self.upper = upper;
            self.states.skip(upper);
            self.orphans.skip(upper);
            self.quarantine.skip(upper);
        }
    }

    /// What has changed since it was last asked; none where no epoch was completed.
    pub(in crate::dataflow) fn poll(&mut self) -> Option<Changes> {
        let upper = self.states.poll().min(self.orphans.poll()).min(self.quarantine.poll());
        if upper <= self.upper {
            return None;
        }
        self.upper = upper;
        let mut told: Vec<((Epoch, ResourceId), Telling)> = Vec::new();
        self.states.take(upper, |id, state, epoch, diff| {
            told.push(((epoch, *id), Telling::State(Arc::clone(state), diff)));
        });
        self.orphans.take(upper, |id, _by, epoch, _diff| told.push(((epoch, *id), Telling::Orphan)));
        let mut rejects = Vec::new();
        self.quarantine.take(upper, |_, entry, epoch, diff| rejects.push((Arc::clone(entry), epoch, diff)));
        let (states, orphans) = (self.states.batches(), self.orphans.batches());
        // Mostly in order already: a batch is, and is of one epoch.
        told.sort_by_key(|(place, _)| *place);
        let (mut told, mut resources) = (told.into_iter().peekable(), Vec::new());
        while let Some((place, telling)) = told.next() {
            let mut all = Told::default();
            all.note(telling);
            while let Some((_, telling)) = told.next_if(|(next, _)| *next == place) {
                all.note(telling);
            }
            resources.extend(all.change(place.1, place.0, &states, &orphans));
        }
        Some(Changes { resources, rejects, upper })
    }
}

impl Told {
    fn note(&mut self, telling: Telling) {
        match telling {
            Telling::State(state, diff) => {
                self.state = true;
                let side = if diff > 0 { &mut self.state_after } else { &mut self.state_before };
                *side = Some(state);
            }
            Telling::Orphan => self.orphan = true,
        }
    }

    /// The change, if there is one after all.
    fn change(
        mut self,
        id: ResourceId,
        epoch: Epoch,
        states: &[Batch<ResourceId, Arc<State>>],
        orphans: &[Batch<ResourceId, ResourceId>],
    ) -> Option<Change> {
        if !self.state {
            let state = value_at(states, &id, epoch).map(Arc::clone);
            (self.state_before, self.state_after) = (state.clone(), state);
        }
        let by_after = value_at(orphans, &id, epoch).copied();
        let by_before = if self.orphan {
            epoch.checked_sub(1).and_then(|before| value_at(orphans, &id, before).copied())
        } else {
            by_after
        };
        let seen = |state: Option<Arc<State>>, orphaned_by| state.map(|state| Seen { state, orphaned_by });
        let (before, after) = (seen(self.state_before, by_before), seen(self.state_after, by_after));
        let parts = match (&before, &after) {
            (None, None) => return None,
            (Some(before), Some(after)) => {
                let of_state = Parts::changed(&before.state, &after.state);
                if before.orphaned_by == after.orphaned_by { of_state } else { of_state.union(Parts::ORPHANED_BY) }
            }
            _ => Parts::ALL,
        };
        Some(Change { epoch, before, after, parts })
    }
}
