//! What a dataflow of SQL reads: rows of a table or of another view, first what is there, then what changes.
//!
//! The worker drives scans between its steps. A scan that begins while there is something to read takes it in slices, a
//! slice a turn, at epochs before the one that is read, ever later ones, so that operators downstream never have to
//! take a million rows at once; nobody can see those epochs. What changes meanwhile waits. No worker's scan gets far ahead
//! of another's: what it makes may all go to one worker, which would be behind with it, and that one's own slices are the
//! slower for what it is given. How large a slice is and when it is taken is decided elsewhere (`pace`).

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use differential_dataflow::consolidation::consolidate_updates;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::probe;

use super::changes::{Change, Changes, Seen};
use super::merged::Merged;
use super::tables::{ResourceWalk, TableBatches};
use super::tail::Tail;
use crate::dataflow::meter::Meter;
use crate::dataflow::render::first_telling;
use crate::dataflow::shared_batch::Diff;
use crate::model::{Coordinates, Epoch, QuarantineEntry};
use crate::sql::{Columns, Failure, Parts, Program, Row, Table, TableKind};

/// Puts updates into a dataflow.
pub(in crate::dataflow) type Updates<D> = InputHandle<Epoch, CapacityContainerBuilder<Vec<(D, Epoch, Diff)>>>;

/// So many rows are evaluated at a time.
const BATCH_ROWS: usize = 4096;
/// So many keys are read a turn at most while there is something to catch up with.
pub const SLICE_KEYS: usize = 8192;
/// So many keys, or a slice of more, are at an epoch of their own.
const EPOCH_KEYS: usize = 512;
/// A scan is at most so many of these epochs ahead of the same scan on any other worker.
const AHEAD_EPOCHS: Epoch = 4;

/// Where a scan puts what it reads.
pub(in crate::dataflow) struct Outlet {
    meter: Arc<Meter>,
    pub(in crate::dataflow) rows: Updates<Row>,
    pub(in crate::dataflow) failures: Updates<Failure>,
    /// How far the rows of all workers have come.
    pub(in crate::dataflow) everywhere: probe::Handle<Epoch>,
}

impl Outlet {
    /// Of a scan that notes here what it does.
    pub(in crate::dataflow) fn new(meter: Arc<Meter>) -> Self {
        Self { meter, rows: Updates::default(), failures: Updates::default(), everywhere: probe::Handle::default() }
    }

    /// No updates before this epoch come any more.
    pub(in crate::dataflow) fn advance_to(&mut self, upper: Epoch) {
        if *self.rows.time() < upper {
            self.rows.advance_to(upper);
            self.failures.advance_to(upper);
        }
    }

    /// Whether a slice at this epoch is ahead of another worker's by too much.
    fn is_ahead(&self, epoch: Epoch) -> bool {
        let slowest = self.everywhere.with_frontier(|frontier| frontier.first().copied());
        slowest.is_some_and(|slowest| epoch > slowest.saturating_add(AHEAD_EPOCHS))
    }

    fn send(&mut self, mut rows: Vec<(Row, Epoch, Diff)>, mut failures: Vec<(Failure, Epoch, Diff)>) {
        self.meter.gave(rows.len());
        self.rows.send_batch(&mut rows);
        self.failures.send_batch(&mut failures);
    }
}

/// Leaves out updates that stand side by side and cancel: a change that makes the same row of a resource as before.
fn cancel_neighbours<D: Eq>(updates: &mut Vec<(D, Epoch, Diff)>) {
    let mut kept: Vec<(D, Epoch, Diff)> = Vec::with_capacity(updates.len());
    for (datum, epoch, diff) in updates.drain(..) {
        let cancels = |last: &(D, Epoch, Diff)| last.1 == epoch && last.2 == -diff && last.0 == datum;
        if kept.last().is_some_and(cancels) {
            kept.pop();
        } else {
            kept.push((datum, epoch, diff));
        }
    }
    *updates = kept;
}

/// What is there when a dataflow begins, taken in slices.
pub(in crate::dataflow) trait Scan {
    /// Whether there is something to catch up with.
    fn is_behind(&self) -> bool;

    /// The epoch of the next slice of what was there when it began; the last one of all when that is done.
    fn at(&self) -> Epoch;

    /// Whether another worker has to come further first.
    fn is_ahead(&self) -> bool;

    /// Reads a slice of so many keys of what was there when it began, or as much of what has changed since.
    fn catch_up(&mut self, keys: usize);
}

/// Rows of a table, put through a program.
pub(in crate::dataflow) struct TableScan {
    table: Arc<Table>,
    columns: Vec<usize>,
    program: Arc<Program>,
    parts: Parts,
    outlet: Outlet,
    hydrating: Option<(Walk, Slices)>,
    behind: VecDeque<Rc<Changes>>,
}

/// What is there when a scan begins.
enum Walk {
    Resources(ResourceWalk),
    Rejects(Merged<Coordinates, Arc<QuarantineEntry>>),
}

/// The epochs of slices, before `last`, which is the one that is read, and before those at which operators tell what they
/// made of it. They go by how many keys were read, so that workers whose slices differ in size are at about the same one.
struct Slices {
    epoch_keys: usize,
    read: usize,
    first: Epoch,
    end: Epoch,
    last: Epoch,
}

impl Slices {
    /// Of at most so many keys each.
    fn new(keys: usize, updates: usize, last: Epoch) -> Self {
        let (epoch_keys, end) = (keys.min(EPOCH_KEYS), first_telling(last));
        let slices = Epoch::try_from(updates / epoch_keys).unwrap_or(0);
        Self { epoch_keys, read: 0, first: end.saturating_sub(slices), end, last }
    }

    /// The epoch of the next slice.
    fn epoch(&self) -> Epoch {
        let passed = Epoch::try_from(self.read / self.epoch_keys).unwrap_or(0);
        (self.first + passed).min(self.end)
    }

    /// The same, once a slice of so many keys is taken at it.
    fn next(&mut self, keys: usize) -> Epoch {
        let epoch = self.epoch();
        self.read += keys;
        epoch
    }

    /// Before which nothing more comes; `more`: whether there is another slice.
    fn reached(&self, more: bool) -> Epoch {
        if more { self.epoch() } else { self.last + 1 }
    }
}

impl TableScan {
    /// A scan that begins with what `batches` hold just before `upper`, so many keys at a time, and goes on with what
    /// changes from then on.
    pub(in crate::dataflow) fn new(
        table: Arc<Table>,
        columns: Vec<usize>,
        program: Arc<Program>,
        mut outlet: Outlet,
        (batches, upper): (TableBatches, Epoch),
        slice_keys: usize,
    ) -> Self {
        let parts = table.parts(&columns);
        let hydrating = upper.checked_sub(1).map(|last| match table.kind {
            TableKind::Quarantine => {
                let walk = batches.rejects(last);
                let slices = Slices::new(slice_keys, walk.updates(), last);
                (Walk::Rejects(walk), slices)
            }
            _ => {
                let walk = batches.resources(last);
                let slices = Slices::new(slice_keys, walk.updates(), last);
                (Walk::Resources(walk), slices)
            }
        });
        // Whoever has the most to read begins first, and waits for nobody.
        hydrating.iter().for_each(|(_, slices)| outlet.advance_to(slices.first));
        Self { table, columns, program, parts, outlet, hydrating, behind: VecDeque::new() }
    }

    /// Takes what has changed; at once, or when it has caught up.
    pub(in crate::dataflow) fn offer(&mut self, changes: &Rc<Changes>) {
        if self.is_behind() {
            self.behind.push_back(Rc::clone(changes));
        } else {
            self.give(changes);
        }
    }

    fn give(&mut self, changes: &Changes) {
        let began = Instant::now();
        match self.table.kind {
            TableKind::Quarantine => self.rejects(&changes.rejects),
            _ => {
                let mut resources = Vec::new();
                changes.resources.iter().for_each(|change| self.collect(change, &mut resources));
                for some in resources.chunks(BATCH_ROWS) {
                    self.resources(some);
                }
            }
        }
        self.outlet.advance_to(changes.upper);
        self.outlet.meter.worked(began);
    }

    /// What a change means for the rows of this scan.
    fn collect<'a>(&self, change: &'a Change, resources: &mut Vec<(&'a Seen, Epoch, Diff)>) {
        let held = |side: &'a Option<Seen>| side.as_ref().filter(|seen| self.table.holds(seen.resource()));
        match (held(&change.before), held(&change.after)) {
            (Some(_), Some(_)) if !change.parts.intersects(self.parts) => {}
            (before, after) => {
                resources.extend(before.map(|seen| (seen, change.epoch, -1)));
                resources.extend(after.map(|seen| (seen, change.epoch, 1)));
            }
        }
    }

    fn resources(&mut self, resources: &[(&Seen, Epoch, Diff)]) {
        if resources.is_empty() {
            return;
        }
        let entries: Vec<_> = resources.iter().map(|(seen, ..)| seen.resource()).collect();
        let columns = self.table.of_resources(&self.columns, &entries);
        let table = Arc::clone(&self.table);
        let key = |place: usize| table.key_of_resource(entries[place]);
        self.evaluate(columns, |place| (resources[place].1, resources[place].2), key);
    }

    fn rejects(&mut self, rejects: &[(Arc<QuarantineEntry>, Epoch, Diff)]) {
        for some in rejects.chunks(BATCH_ROWS) {
            let entries: Vec<&QuarantineEntry> = some.iter().map(|(entry, ..)| &**entry).collect();
            let columns = self.table.of_rejects(&self.columns, &entries);
            let table = Arc::clone(&self.table);
            self.evaluate(columns, |place| (some[place].1, some[place].2), |place| table.key_of_reject(entries[place]));
        }
    }

    /// `key`: by what an entry can be found, which a row that fails tells though the program does not read it.
    fn evaluate(&mut self, columns: Columns, when: impl Fn(usize) -> (Epoch, Diff), key: impl Fn(usize) -> String) {
        self.outlet.meter.took(columns.places.len() + columns.failures.len());
        let evaluated = self.program.run_columns(&columns.batch);
        let update = |row, place: usize| {
            let (epoch, diff) = when(place);
            (row, epoch, diff)
        };
        let rows = evaluated.rows.into_iter().map(|(place, row)| update(row, columns.places[place]));
        let unread = columns.failures.into_iter();
        let shows_key = self.table.shows_key(&self.columns);
        let unmade = evaluated.failures.into_iter().map(|(place, failure)| {
            let place = columns.places[place];
            (place, if shows_key { failure } else { failure.with_key(&key(place)) })
        });
        let failures = unread.chain(unmade).map(|(place, failure)| {
            let (epoch, diff) = when(place);
            (failure, epoch, diff)
        });
        let (mut rows, mut failures): (Vec<_>, Vec<_>) = (rows.collect(), failures.collect());
        if self.hydrating.is_some() {
            // Much of what is made of different resources may be the same.
            consolidate_updates(&mut rows);
        } else {
            cancel_neighbours(&mut rows);
            cancel_neighbours(&mut failures);
        }
        self.outlet.send(rows, failures);
    }
}

impl Scan for TableScan {
    fn is_behind(&self) -> bool {
        self.hydrating.is_some() || !self.behind.is_empty()
    }

    fn at(&self) -> Epoch {
        self.hydrating.as_ref().map_or(Epoch::MAX, |(_, slices)| slices.epoch())
    }

    fn is_ahead(&self) -> bool {
        self.hydrating.as_ref().is_some_and(|(_, slices)| self.outlet.is_ahead(slices.epoch()))
    }

    fn catch_up(&mut self, keys: usize) {
        let Some((walk, slices)) = &mut self.hydrating else {
            let mut given = 0;
            while given < keys
                && let Some(changes) = self.behind.pop_front()
            {
                given += 1 + changes.resources.len() + changes.rejects.len();
                self.give(&changes);
            }
            return;
        };
        let (began, epoch) = (Instant::now(), slices.next(keys));
        let more = match walk {
            Walk::Resources(walk) => {
                let (mut seen, table) = (Vec::with_capacity(keys), &self.table);
                let more = walk.next(keys, |resource| {
                    if table.holds(resource.resource()) {
                        seen.push(resource);
                    }
                });
                self.outlet.advance_to(epoch);
                let resources: Vec<_> = seen.iter().map(|seen| (seen, epoch, 1)).collect();
                self.resources(&resources);
                more
            }
            Walk::Rejects(walk) => {
                let mut rejects = Vec::new();
                let more = walk.next(keys, |_, entry, diff| rejects.push((Arc::clone(entry), epoch, diff)));
                self.outlet.advance_to(epoch);
                self.rejects(&rejects);
                more
            }
        };
        // Whoever waits for this worker is told at once.
        let (_, slices) = self.hydrating.as_ref().expect("a slice of it was just taken");
        self.outlet.advance_to(slices.reached(more));
        if !more {
            self.hydrating = None;
        }
        self.outlet.meter.worked(began);
    }
}

/// The rows of another view.
pub(in crate::dataflow) struct ViewScan {
    tail: Tail<Row, ()>,
    outlet: Outlet,
    hydrating: Option<(Merged<Row, ()>, Slices)>,
}

impl ViewScan {
    /// A scan of what a view holds, so many rows at a time, and will hold.
    pub(in crate::dataflow) fn new(tail: Tail<Row, ()>, mut outlet: Outlet, slice_keys: usize) -> Self {
        let hydrating = tail.upper().checked_sub(1).map(|last| {
            let walk = Merged::new(tail.batches(), last);
            // What is complete for ever, since it depends on nothing, was so from the first epoch on.
            let last = if tail.upper() == Epoch::MAX { 0 } else { last };
            let slices = Slices::new(slice_keys, walk.updates(), last);
            (walk, slices)
        });
        hydrating.iter().for_each(|(_, slices)| outlet.advance_to(slices.first));
        Self { tail, outlet, hydrating }
    }

    /// The epoch of what was there when it began.
    pub(in crate::dataflow) fn readable_from(&self) -> Epoch {
        self.hydrating.as_ref().map_or(0, |(_, slices)| slices.last)
    }

    /// Reads what has changed, once it has caught up.
    pub(in crate::dataflow) fn follow(&mut self) {
        if self.is_behind() {
            return;
        }
        let upper = self.tail.poll();
        if *self.outlet.rows.time() < upper {
            let (began, mut rows) = (Instant::now(), Vec::new());
            self.tail.take(upper, |row, (), epoch, diff| rows.push((row.clone(), epoch, diff)));
            self.send(rows);
            self.outlet.advance_to(upper);
            self.outlet.meter.worked(began);
        }
    }

    fn send(&mut self, rows: Vec<(Row, Epoch, Diff)>) {
        self.outlet.meter.took(rows.len());
        self.outlet.send(rows, Vec::new());
    }
}

impl Scan for ViewScan {
    fn is_behind(&self) -> bool {
        self.hydrating.is_some()
    }

    fn catch_up(&mut self, keys: usize) {
        let Some((walk, slices)) = &mut self.hydrating else { return };
        let (began, epoch, mut rows) = (Instant::now(), slices.next(keys), Vec::new());
        let more = walk.next(keys, |row, (), diff| rows.push((row.clone(), epoch, diff)));
        let reached = slices.reached(more);
        self.outlet.advance_to(epoch);
        self.send(rows);
        self.outlet.advance_to(reached);
        if !more {
            self.hydrating = None;
        }
        self.outlet.meter.worked(began);
    }

    fn at(&self) -> Epoch {
        self.hydrating.as_ref().map_or(Epoch::MAX, |(_, slices)| slices.epoch())
    }

    fn is_ahead(&self) -> bool {
        self.hydrating.as_ref().is_some_and(|(_, slices)| self.outlet.is_ahead(slices.epoch()))
    }
}
