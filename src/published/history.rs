//! The recent past: which epochs there were, what changed in each, and how far back either is kept.
//!
//! In: bindings and cuts, as they are published. Out: the instant of any epoch that is kept, changes between two of them,
//! and the floors of compaction, which make batches keep what such an instant needs. Kept is the lesser of a time and a
//! share of what is held now, and so many updates however little is held. Each view has a limit of its own, because one
//! of few rows that all change with every epoch has a history of very many updates: those of instants are in the way of
//! who reads it now, those of changes are not. While the log is caught up with, instants are not kept. Not here: who asks for them (`http`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;

use super::change_log::ChangeLog;
use super::view::ReadView;
use crate::dataflow::{Batch, Binding, Cut, Diff, Floors, ViewId};
use crate::model::{Coordinates, Epoch, QuarantineEntry, ResourceId, State};
use crate::sql::{Failure, Row};

/// How much is kept, of every table and view. A change is two updates: what it was, and what it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HistoryLimits {
    /// For so long, ms; nothing with 0.
    pub retention_ms: u64,
    /// So large a part of what is held now may be there a second time, as it was.
    pub share: f64,
    /// So many updates may be kept for instants, however little is held.
    pub instant_updates_min: usize,
    /// So many changes of a view, in updates, may be kept for those who follow it, however few rows it has.
    pub view_changes_min: usize,
}

impl HistoryLimits {
    /// Nothing is kept.
    pub const NONE: Self = Self { retention_ms: 0, share: 0.0, instant_updates_min: 0, view_changes_min: 0 };

    /// How many updates of an arrangement that holds so many may be history.
    fn updates_max(&self, held: usize) -> usize {
        if self.retention_ms == 0 {
            return 0;
        }
        ((held as f64 * self.share) as usize).saturating_mul(2).max(self.instant_updates_min)
    }
}

/// What is asked for is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It was let go, or never was.
    #[error("it is older than what is kept")]
    Before {
        /// What is kept begins here.
        since: Epoch,
    },
    /// It is later than what is shown.
    #[error("it is later than what is shown")]
    After {
        /// What is shown.
        shown: Epoch,
    },
}

/// When something was last shown to be another one than before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Resources, orphans among them.
    pub tables: Epoch,
    /// Rejected records.
    pub quarantine: Epoch,
    /// The rows of views.
    pub views: BTreeMap<ViewId, Epoch>,
    /// Those that could not be evaluated.
    pub failures: BTreeMap<ViewId, Epoch>,
}

/// What changed in an epoch: the rows that left and came, each once, with how often.
pub type RowChanges = (Epoch, Vec<(Row, Diff)>);

/// What the tables were given between two epochs: batches that have it, and may have more; and the epochs that there were.
pub(super) struct TableChanges {
    pub(super) states: Vec<Batch<ResourceId, Arc<State>>>,
    pub(super) orphans: Vec<Batch<ResourceId, ResourceId>>,
    pub(super) epochs: Vec<Epoch>,
}

/// What is kept of the past.
pub(super) struct History {
    limits: HistoryLimits,
    inner: Mutex<Inner>,
    floors: ArcSwap<Floors>,
}

#[derive(Default)]
struct Inner {
    /// Whether instants are kept.
    is_kept: bool,
    /// Of all epochs that were shown or passed by, in order.
    bindings: VecDeque<Binding>,
    states: ChangeLog<ResourceId, Arc<State>>,
    orphans: ChangeLog<ResourceId, ResourceId>,
    quarantine: ChangeLog<Coordinates, Arc<QuarantineEntry>>,
    views: BTreeMap<ViewId, ChangeLog<Row, ()>>,
    failures: BTreeMap<ViewId, ChangeLog<Failure, ()>>,
    changed: Arc<Changed>,
}

impl History {
    pub(super) fn new(limits: HistoryLimits) -> Self {
        Self { limits, inner: Mutex::default(), floors: ArcSwap::default() }
    }

    pub(super) fn limits(&self) -> HistoryLimits {
        self.limits
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics with the history")
    }

    /// From now on instants are kept.
    pub(super) fn begin(&self) {
        self.inner().is_kept = true;
    }

    pub(super) fn floors(&self) -> Arc<Floors> {
        self.floors.load_full()
    }

    /// Takes from a cut what is new in it.
    pub(super) fn hear(&self, cut: &mut Cut) {
        let mut inner = self.inner();
        let fresh = std::mem::take(&mut cut.fresh);
        inner.states.hear(fresh.states);
        inner.orphans.hear(fresh.orphans);
        inner.quarantine.hear(fresh.quarantine);
        for view in &mut cut.views {
            let log = inner.views.entry(view.id).or_default();
            log.let_go(view.readable_from, usize::MAX, usize::MAX);
            log.hear(std::mem::take(&mut view.fresh));
            let failures = inner.failures.entry(view.id).or_default();
            failures.let_go(view.readable_from, 0, 0);
            failures.hear(std::mem::take(&mut view.fresh_failures));
        }
    }

    /// These epochs, in order, are passed or shown, the last one with these cuts; what had changed when.
    pub(super) fn show(&self, bindings: Vec<Binding>, cuts: &[Cut]) -> Arc<Changed> {
        let Some(published) = bindings.last().map(|binding| binding.epoch) else { return Arc::default() };
        let mut inner = self.inner();
        let Inner { is_kept, bindings: known, states, orphans, quarantine, views, failures, changed } = &mut *inner;
        known.extend(bindings);
        let floor = published.saturating_sub(self.limits.retention_ms);
        while known.get(1).is_some_and(|second| second.epoch <= floor) {
            known.pop_front();
        }
        let is_there = |id: &ViewId| cuts.iter().any(|cut| cut.views.iter().any(|view| view.id == *id));
        views.retain(|id, _| is_there(id));
        failures.retain(|id, _| is_there(id));
        // Of these nobody asks more than when.
        quarantine.show(published);
        quarantine.let_go(published, 0, 0);
        for log in failures.values_mut() {
            log.show(published);
            log.let_go(published, 0, 0);
        }
        let held: usize = cuts.iter().flat_map(|cut| &cut.states).map(Batch::updates).sum();
        let updates_max = self.limits.updates_max(held.saturating_sub(states.instant_updates()));
        states.show(published);
        orphans.show(published);
        // States that are kept for those who follow changes take as much as those that are kept for instants.
        states.let_go(floor, updates_max, updates_max);
        orphans.let_go(floor, updates_max, updates_max);
        let tables = states.instants_since().max(orphans.instants_since());
        let mut floors =
            Floors { published, tables: if *is_kept { tables } else { published }, views: BTreeMap::new() };
        for (id, log) in views.iter_mut() {
            let shares = || cuts.iter().flat_map(|cut| &cut.views).filter(|view| view.id == *id);
            let held: usize = shares().flat_map(|share| &share.rows).map(Batch::updates).sum();
            log.show(published);
            let instants_max = self.limits.updates_max(held.saturating_sub(log.instant_updates()));
            log.let_go(floor, instants_max, instants_max.max(self.limits.view_changes_min));
            floors.views.insert(*id, if *is_kept { log.instants_since() } else { published });
        }
        self.floors.store(Arc::new(floors));
        let now = Changed {
            tables: states.changed().max(orphans.changed()),
            quarantine: quarantine.changed(),
            views: views.iter().map(|(id, log)| (*id, log.changed())).collect(),
            failures: failures.iter().map(|(id, log)| (*id, log.changed())).collect(),
        };
        if **changed != now {
            *changed = Arc::new(now);
        }
        Arc::clone(changed)
    }

    /// The last epoch at or before `epoch` that there was.
    pub(super) fn binding_at(&self, epoch: Epoch) -> Option<Binding> {
        let inner = self.inner();
        let after = inner.bindings.partition_point(|binding| binding.epoch <= epoch);
        after.checked_sub(1).and_then(|last| inner.bindings.get(last)).cloned()
    }

    /// The first epoch from which on the changes of a view are kept.
    pub(super) fn changes_since(&self, id: ViewId) -> Option<Epoch> {
        let inner = self.inner();
        inner.first_from(inner.views.get(&id)?.since())
    }

    /// The epochs that there were from one on and until another one, which was shown and is the last.
    pub(super) fn epochs_from(&self, since: Epoch, until: Epoch) -> Vec<Epoch> {
        let mut epochs = self.inner().epochs(since.saturating_sub(1), until);
        if epochs.last() != Some(&until) {
            epochs.push(until);
        }
        epochs
    }

    /// The first epoch at or after `epoch` that there was and that is kept.
    pub(super) fn first_from(&self, epoch: Epoch) -> Option<Epoch> {
        self.inner().first_from(epoch)
    }

    /// What changed in a view after one epoch until another one, which were shown, epoch by epoch.
    pub(super) fn rows_changed(&self, id: ViewId, after: Epoch, until: Epoch) -> Result<Vec<RowChanges>, NotKept> {
        let (batches, epochs) = {
            let inner = self.inner();
            let log = inner.views.get(&id).ok_or(NotKept::Before { since: until })?;
            inner.knows(after)?;
            let batches = log.between(after, until).ok_or(NotKept::Before { since: log.since() })?;
            (batches, inner.epochs(after, until))
        };
        let mut updates: Vec<(Epoch, Row, Diff)> = Vec::new();
        for batch in &batches {
            batch.each(|row, (), time, diff| {
                if after < time && time <= until {
                    updates.push((shown_at(&epochs, time, until), row.clone(), diff));
                }
            });
        }
        updates.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let mut changes: Vec<RowChanges> = Vec::new();
        for same in updates.chunk_by(|a, b| a.0 == b.0 && a.1 == b.1) {
            let (epoch, row, _) = &same[0];
            let sum: Diff = same.iter().map(|(.., diff)| diff).sum();
            if sum == 0 {
                continue;
            }
            match changes.last_mut().filter(|(last, _)| last == epoch) {
                Some((_, rows)) => rows.push((row.clone(), sum)),
                None => changes.push((*epoch, vec![(row.clone(), sum)])),
            }
        }
        Ok(changes)
    }

    /// What the tables were given after one epoch until another one, which were shown.
    pub(super) fn table_changes(&self, after: Epoch, until: Epoch) -> Result<TableChanges, NotKept> {
        let inner = self.inner();
        inner.knows(after)?;
        let since = inner.states.since().max(inner.orphans.since());
        let states = inner.states.between(after, until).ok_or(NotKept::Before { since })?;
        let orphans = inner.orphans.between(after, until).ok_or(NotKept::Before { since })?;
        Ok(TableChanges { states, orphans, epochs: inner.epochs(after, until) })
    }

    /// The resources of which something changed after one epoch until another one, which were shown, epoch by epoch and in
    /// order of id: their states, or whether they are orphans.
    pub(super) fn resources_changed(
        &self,
        after: Epoch,
        until: Epoch,
    ) -> Result<Vec<(Epoch, Vec<ResourceId>)>, NotKept> {
        let TableChanges { states, orphans, epochs } = self.table_changes(after, until)?;
        let mut changed: Vec<(Epoch, ResourceId)> = Vec::new();
        let mut note = |id: &ResourceId, time: Epoch| {
            if after < time && time <= until {
                changed.push((shown_at(&epochs, time, until), *id));
            }
        };
        states.iter().for_each(|batch| batch.each(|id, _, time, _| note(id, time)));
        orphans.iter().for_each(|batch| batch.each(|id, _, time, _| note(id, time)));
        changed.sort_unstable();
        changed.dedup();
        let epochs = changed.chunk_by(|a, b| a.0 == b.0);
        Ok(epochs.map(|same| (same[0].0, same.iter().map(|(_, id)| *id).collect())).collect())
    }
}

impl Inner {
    /// Whether what changed after an epoch can be known: before the first epoch that there was, which may be that of a
    /// snapshot, are only the slices in which its states were taken back.
    fn knows(&self, after: Epoch) -> Result<(), NotKept> {
        match self.bindings.front().filter(|first| after < first.epoch) {
            Some(first) => Err(NotKept::Before { since: first.epoch }),
            None => Ok(()),
        }
    }

    /// The first epoch at or after one that there was and that is kept.
    fn first_from(&self, epoch: Epoch) -> Option<Epoch> {
        let before = self.bindings.partition_point(|binding| binding.epoch < epoch);
        self.bindings.get(before).map(|binding| binding.epoch)
    }

    /// The epochs that there were after one and until another one.
    fn epochs(&self, after: Epoch, until: Epoch) -> Vec<Epoch> {
        let first = self.bindings.partition_point(|binding| binding.epoch <= after);
        let epochs = self.bindings.range(first..).map(|binding| binding.epoch);
        epochs.take_while(|epoch| *epoch <= until).collect()
    }
}

/// The epoch in which a change is first seen: some happen between two, since time alone makes them.
pub(super) fn shown_at(epochs: &[Epoch], time: Epoch, until: Epoch) -> Epoch {
    epochs.get(epochs.partition_point(|epoch| *epoch < time)).copied().unwrap_or(until)
}

impl ReadView {
    /// When resources, orphans among them, were last shown to be others than before: what is shown now was shown then.
    pub fn tables_changed(&self) -> Epoch {
        self.by_now(self.changed.tables)
    }

    /// The same of rejected records.
    pub fn quarantine_changed(&self) -> Epoch {
        self.by_now(self.changed.quarantine)
    }

    /// The same of the rows of a view.
    pub fn rows_changed(&self, id: ViewId) -> Epoch {
        self.changed.views.get(&id).map_or(self.epoch(), |changed| self.by_now(*changed))
    }

    /// The same of the rows that a view could not evaluate.
    pub fn failures_changed(&self, id: ViewId) -> Epoch {
        self.changed.failures.get(&id).map_or(self.epoch(), |changed| self.by_now(*changed))
    }

    /// Of an instant of the past no more is known than that it changed later.
    fn by_now(&self, changed: Epoch) -> Epoch {
        changed.min(self.epoch())
    }

    /// Tables can be read at epochs from here on.
    pub fn since(&self) -> Epoch {
        self.cuts().iter().map(|cut| cut.since).max().unwrap_or_default()
    }

    /// A view can be read at epochs from here on.
    pub fn view_since(&self, id: ViewId) -> Epoch {
        self.shares(id).map(|share| share.since.max(share.readable_from)).max().unwrap_or_default().max(self.since())
    }
}
