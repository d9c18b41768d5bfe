//! What one arrangement was given of late, batch by batch: its changes between two epochs, for as long as they are kept.
//!
//! Merged batches lose the times of their updates once compaction passes them, and where they have them they are in order
//! of rows; these here stay as they came. What is let go raises `since`, so nobody is ever told half of what changed.

use std::collections::VecDeque;

use crate::dataflow::{Batch, Row};
use crate::model::Epoch;

/// A batch as it came.
#[derive(Debug)]
struct Heard<K: Row, V: Row> {
    batch: Batch<K, V>,
    /// The epochs of its updates.
    first: Epoch,
    last: Epoch,
    /// Up to where it was shown.
    shown: Epoch,
}

/// The changes of an arrangement.
#[derive(Debug)]
pub(super) struct ChangeLog<K: Row, V: Row> {
    /// Those with updates that were not shown yet.
    open: Vec<Heard<K, V>>,
    closed: VecDeque<Heard<K, V>>,
    /// Of those that are closed.
    updates: usize,
    since: Epoch,
    /// So many of the closed ones are too old for instants, which are kept for less than changes; how many updates the
    /// others have, and since when there are instants.
    past: usize,
    instant_updates: usize,
    instants_since: Epoch,
    changed: Option<Epoch>,
}

impl<K: Row, V: Row> Default for ChangeLog<K, V> {
    fn default() -> Self {
        let (open, closed) = (Vec::new(), VecDeque::new());
        Self { open, closed, updates: 0, since: 0, past: 0, instant_updates: 0, instants_since: 0, changed: None }
    }
}

impl<K: Row, V: Row> ChangeLog<K, V> {
    /// All changes later than this are here.
    pub(super) fn since(&self) -> Epoch {
        self.since
    }

    /// What was there later than this can be told apart by the batches that it holds.
    pub(super) fn instants_since(&self) -> Epoch {
        self.instants_since
    }

    /// When it was last shown to be another one.
    pub(super) fn changed(&self) -> Epoch {
        self.changed.unwrap_or_default()
    }

    /// How many updates of what the batches hold are there for the sake of instants.
    pub(super) fn instant_updates(&self) -> usize {
        self.instant_updates
    }

    /// Takes what came.
    pub(super) fn hear(&mut self, batches: Vec<Batch<K, V>>) {
        for batch in batches {
            let Some((first, last)) = batch.epochs() else { continue };
            if last > self.since {
                self.open.push(Heard { batch, first, last, shown: self.since });
            }
        }
    }

    /// What came is shown up to `until`.
    pub(super) fn show(&mut self, until: Epoch) {
        // What is shown first may be something else than what a process before this one showed last.
        self.changed.get_or_insert(until);
        let mut rest = Vec::new();
        for mut heard in self.open.drain(..) {
            if heard.batch.changes_between(heard.shown, until) {
                self.changed = Some(until);
            }
            heard.shown = until;
            if heard.last <= until {
                self.updates += heard.batch.updates();
                self.instant_updates += heard.batch.updates();
                self.closed.push_back(heard);
            } else {
                rest.push(heard);
            }
        }
        self.open = rest;
    }

    /// Lets go what is at or before `floor`, which was shown, and the oldest where it is more than so many updates: of
    /// instants, and of changes, which are no fewer.
    pub(super) fn let_go(&mut self, floor: Epoch, instants_max: usize, changes_max: usize) {
        while self.instant_updates > instants_max
            && let Some(past) = self.closed.get(self.past)
        {
            self.instant_updates -= past.batch.updates();
            self.instants_since = self.instants_since.max(past.last);
            self.past += 1;
        }
        while self.closed.front().is_some_and(|first| first.last <= floor || self.updates > changes_max) {
            let Some(gone) = self.closed.pop_front() else { break };
            self.updates -= gone.batch.updates();
            self.since = self.since.max(gone.last);
            match self.past.checked_sub(1) {
                Some(past) => self.past = past,
                None => self.instant_updates -= gone.batch.updates(),
            }
        }
        self.since = self.since.max(floor);
        self.instants_since = self.instants_since.max(self.since);
    }

    /// The batches that have the changes later than `after`, and at or before `until`, and may have others; none where some
    /// of them were let go.
    pub(super) fn between(&self, after: Epoch, until: Epoch) -> Option<Vec<Batch<K, V>>> {
        let all = self.closed.iter().chain(&self.open);
        let those = all.filter(|heard| heard.last > after && heard.first <= until);
        (after >= self.since).then(|| those.map(|heard| heard.batch.clone()).collect())
    }
}
