//! The views of one worker: installs and removes them, drives their scans, and hands over their batches.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::VecCollection;
use differential_dataflow::operators::arrange::TraceAgent;
use timely::worker::Worker;

use super::changes::{ChangeFeed, Changes};
use super::drawn::{Drawing, Flow, SharedArrangement, SharedKey};
use super::log::{NewView, ViewCommand};
use super::scan::{Scan, TableScan, ViewScan};
use crate::dataflow::cut::{Floors, SharedUse, ViewCut, ViewId};
use crate::dataflow::ending::{Ending, Endings};
use crate::dataflow::graph::{self, Tables};
use crate::dataflow::index::HashKeys;
use crate::dataflow::listener::Listener;
use crate::dataflow::meter::{Meter, ROWS, bytes_of};
use crate::dataflow::render;
use crate::dataflow::shared_batch::{Diff, SharedSpine};
use crate::model::Epoch;
use crate::sql::{Failure, Fingerprint, Keyed, Operator, Relation, Row};

/// By what the dataflow of a view is known among those of the command that makes it.
pub(in crate::dataflow) const VIEW: &str = "view";

/// All views of a worker.
pub(in crate::dataflow) struct Views {
    keys: HashKeys,
    slice_keys: usize,
    feed: ChangeFeed,
    installed: BTreeMap<ViewId, Installed>,
    shared: BTreeMap<SharedKey, SharedArrangement>,
    /// The least upper of those that are about as far as the tables.
    least: Epoch,
}

/// What there was to catch up with in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dataflow) enum CatchingUp {
    /// Nothing.
    Nothing,
    /// Something, and a slice of it was taken.
    Slice,
    /// Something, but it was not the time for a slice.
    Waits,
    /// Something, but another worker has to come further first, which will be heard.
    Ahead,
}

/// Nobody waits for a view that is this much behind the tables, in epochs.
const LATE_EPOCHS: Epoch = 500;

/// What has come further since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dataflow) enum Progress {
    /// Nothing.
    None,
    /// Some views, but not all that are about as far as the tables: the others will be heard of soon.
    Some,
    /// All of them.
    All,
}

/// One view.
struct Installed {
    rows: TraceAgent<SharedSpine<Row, ()>>,
    failures: TraceAgent<SharedSpine<Failure, ()>>,
    flow: Flow,
    meters: Arc<[Arc<Meter>]>,
    shared: Arc<[Arc<SharedUse>]>,
    fresh: Listener<Row, ()>,
    fresh_failures: Listener<Failure, ()>,
    /// The upper when it was looked at last.
    upper: Epoch,
    /// How far its rows were compacted.
    since: Epoch,
}

impl Views {
    /// The views of a worker whose tables are these; none yet. New ones read so many keys at a time.
    pub(in crate::dataflow) fn new(worker: &Worker, tables: &Tables, keys: HashKeys, slice_keys: usize) -> Self {
        let feed = ChangeFeed::new(worker, tables);
        Self { keys, slice_keys, feed, installed: BTreeMap::new(), shared: BTreeMap::new(), least: 0 }
    }

    /// Does what it is told.
    pub(in crate::dataflow) fn command(&mut self, worker: &mut Worker, command: &ViewCommand, endings: &Endings) {
        match command {
            ViewCommand::Install(view) => {
                let mut sides = Vec::new();
                joined_sides(&view.plan.relation, &mut sides);
                sides.into_iter().for_each(|side| self.share(worker, view, side, endings));
                self.install(worker, view, endings.of(VIEW));
            }
            ViewCommand::Remove(id) => {
                // Its inputs end with it, and its dataflow with them.
                if let Some(removed) = self.installed.remove(id) {
                    self.release(removed.flow);
                }
            }
        }
    }

    /// Arranges a side of a join for whoever needs it, if it is not arranged yet.
    fn share(&mut self, worker: &mut Worker, view: &NewView, side: &Keyed, endings: &Endings) {
        let key = SharedKey::of(side, &view.reads);
        if self.shared.contains_key(&key) {
            return;
        }
        let ending = endings.of(&format!("{key:?}"));
        let mut drawing = Drawing::new(&mut self.shared, &view.reads, self.keys, ending.clone());
        let keys = self.keys;
        let (rows, failures) = worker.dataflow_named("Shared", |scope| {
            let index = render::index(side, scope, &mut drawing);
            (index.rows.trace, arrange_failures(index.failures, keys, &ending))
        });
        let (feed, installed) = (&self.feed, &self.installed);
        let flow = drawing.begin(worker, feed, self.slice_keys, |id| read(installed, id));
        let shown = Arc::new(SharedUse::new(side.input.fingerprint, side.key.explain(), flow.meters.clone().into()));
        self.shared.insert(key, SharedArrangement { rows, failures, flow, shown });
    }

    fn install(&mut self, worker: &mut Worker, view: &NewView, ending: Ending) {
        let plan = &view.plan;
        let mut drawing = Drawing::new(&mut self.shared, &view.reads, self.keys, ending.clone());
        let keys = self.keys;
        let meter = Arc::new(Meter::new(plan.relation.fingerprint, ROWS).within(&ending));
        let held = Arc::clone(&meter);
        let (rows, failures) = worker.dataflow_named(&plan.name, |scope| {
            let rendered = render::view(plan, scope, &mut drawing);
            let rows = rendered.rows.map(|row| (row, ())).inner;
            let bytes = |row: &Row, (): &()| bytes_of(row) + size_of::<(Epoch, Diff)>();
            let rows = render::arrange(rows, "Rows", held, move |row| keys.route(row), bytes);
            (rows.trace, arrange_failures(rendered.failures, keys, &ending))
        });
        let (feed, installed) = (&self.feed, &self.installed);
        let flow = drawing.begin(worker, feed, self.slice_keys, |id| read(installed, id));
        let meters = flow.meters.iter().cloned().chain([meter]).collect();
        let mut shared = Vec::new();
        self.shared_by(&flow, &mut shared);
        let shared = shared.into();
        let (fresh, fresh_failures) = (Listener::new(worker, &rows), Listener::new(worker, &failures));
        let (upper, since) = (0, 0);
        let installed = Installed { rows, failures, flow, meters, shared, fresh, fresh_failures, upper, since };
        self.installed.insert(view.id, installed);
        self.release_unread();
    }

    /// Lets go what was arranged for a view and turned out not to be read.
    fn release_unread(&mut self) {
        let unread = |shared: &BTreeMap<SharedKey, SharedArrangement>| {
            shared.iter().find(|(_, shared)| shared.shown.readers() == 0).map(|(key, _)| key.clone())
        };
        while let Some(unused) = unread(&self.shared).and_then(|key| self.shared.remove(&key)) {
            self.release(unused.flow);
        }
    }

    /// The arrangements that a dataflow reads, and those that they are made of, each once.
    fn shared_by(&self, flow: &Flow, all: &mut Vec<Arc<SharedUse>>) {
        for shared in flow.shared.iter().filter_map(|key| self.shared.get(key)) {
            if all.iter().all(|known| !Arc::ptr_eq(known, &shared.shown)) {
                all.push(Arc::clone(&shared.shown));
                self.shared_by(&shared.flow, all);
            }
        }
    }

    /// Lets a dataflow go, and what it alone was sharing.
    fn release(&mut self, flow: Flow) {
        flow.ending.begin();
        for key in &flow.shared {
            let Some(shared) = self.shared.get(key) else { continue };
            if shared.shown.release() == 0
                && let Some(unused) = self.shared.remove(key)
            {
                self.release(unused.flow);
            }
        }
    }

    /// Whether a view that has caught up has not yet what is in the tables.
    pub(in crate::dataflow) fn at_work(&self) -> bool {
        let upper = self.feed.upper();
        let mut followers = self.installed.values().filter(|view| !view.flow.is_behind());
        followers.any(|view| view.upper > view.flow.readable_from && view.upper < upper)
    }

    /// Feeds the views with what has changed, and lets one that is new catch up by a slice of so many keys.
    pub(in crate::dataflow) fn turn(&mut self, slice_keys: usize) -> CatchingUp {
        if self.installed.is_empty() {
            self.feed.skip();
            return CatchingUp::Nothing;
        }
        let changes = self.feed.poll().map(Rc::new);
        let shared = self.shared.values_mut().map(|shared| &mut shared.flow);
        let flows = shared.chain(self.installed.values_mut().map(|view| &mut view.flow));
        let mut catching_up = CatchingUp::Nothing;
        for flow in flows {
            flow.follow(changes.as_ref());
            if catching_up == CatchingUp::Nothing {
                catching_up = flow.catch_up(slice_keys);
            }
        }
        catching_up
    }

    /// What has come further since the last time; compaction goes as far as `floors` say.
    pub(in crate::dataflow) fn advance(&mut self, floors: &Floors) -> Progress {
        // Never beyond what a trace has itself, which may be behind: what begins to read it reads what it had last.
        let up_to = |floor: Epoch, upper: Epoch| floor.min(upper.saturating_sub(1));
        let since = |upper: Epoch| up_to(floors.published, upper);
        for shared in self.shared.values_mut() {
            let (rows, failures) = (graph::upper(&mut shared.rows), graph::upper(&mut shared.failures));
            graph::compact(&mut shared.rows, since(rows), rows);
            graph::compact(&mut shared.failures, since(failures), failures);
        }
        let (mut further, mut least) = (false, Epoch::MAX);
        for (id, view) in &mut self.installed {
            let floor = floors.view(*id);
            let (rows, failures) = (graph::upper(&mut view.rows), graph::upper(&mut view.failures));
            let upper = rows.min(failures);
            further |= upper > view.upper;
            view.upper = upper;
            view.since = view.since.max(up_to(floor, rows));
            graph::compact(&mut view.rows, view.since, rows);
            graph::compact(&mut view.failures, up_to(floor, failures), failures);
            if !view.is_awaited() {
                // Nobody sees what it was given until then.
                drop((view.fresh.take(), view.fresh_failures.take()));
            } else if upper.saturating_add(LATE_EPOCHS) >= self.feed.upper() {
                least = least.min(upper);
            }
        }
        match (further, std::mem::replace(&mut self.least, least) < least) {
            (true, true) => Progress::All,
            (true, false) => Progress::Some,
            (false, _) => Progress::None,
        }
    }

    /// At which epochs the scans of a view read what was there when it began; none of those that have read it all.
    #[cfg(test)]
    pub(in crate::dataflow) fn hydrating_at(&self, id: ViewId) -> Vec<Epoch> {
        let scans = self.installed.get(&id).into_iter().flat_map(|view| &view.flow.table_scans);
        scans.map(Scan::at).filter(|at| *at < Epoch::MAX).collect()
    }

    /// The batches of all views that are complete.
    pub(in crate::dataflow) fn cut(&mut self) -> Vec<ViewCut> {
        // What nobody can see is nothing new for anybody either.
        let complete = self.installed.iter_mut().filter_map(|(id, view)| {
            let fresh = (view.fresh.take(), view.fresh_failures.take());
            view.is_awaited().then_some((id, view, fresh))
        });
        complete
            .map(|(id, view, (fresh, fresh_failures))| ViewCut {
                id: *id,
                upper: view.upper,
                readable_from: view.flow.readable_from,
                since: view.since,
                fresh,
                fresh_failures,
                rows: graph::batches(&mut view.rows),
                failures: graph::batches(&mut view.failures),
                meters: Arc::clone(&view.meters),
                shared: Arc::clone(&view.shared),
            })
            .collect()
    }
}

impl Installed {
    /// Whether it can be read, and anybody wants to. One that another worker is letting go is no longer what its rows
    /// should be.
    fn is_awaited(&self) -> bool {
        self.upper > self.flow.readable_from && !self.flow.ending.has_begun()
    }
}

impl Flow {
    /// Whether there is something to catch up with.
    fn is_behind(&self) -> bool {
        self.table_scans.iter().any(TableScan::is_behind) || self.view_scans.iter().any(ViewScan::is_behind)
    }

    /// Takes what has changed.
    fn follow(&mut self, changes: Option<&Rc<Changes>>) {
        if let Some(changes) = changes {
            self.table_scans.iter_mut().for_each(|scan| scan.offer(changes));
            self.clocks.iter_mut().for_each(|clock| clock.advance_to(changes.upper));
        }
        self.view_scans.iter_mut().for_each(ViewScan::follow);
    }

    /// Catches up by a slice of so many keys, if there may be one.
    fn catch_up(&mut self, keys: usize) -> CatchingUp {
        let table_scans = self.table_scans.iter_mut().map(|scan| scan as &mut dyn Scan);
        let scans = table_scans.chain(self.view_scans.iter_mut().map(|scan| scan as &mut dyn Scan));
        // What is read of one of them waits in operators until the others have come as far.
        let Some(scan) = scans.filter(|scan| scan.is_behind()).min_by_key(|scan| scan.at()) else {
            return CatchingUp::Nothing;
        };
        if scan.is_ahead() {
            return CatchingUp::Ahead;
        }
        if keys == 0 {
            return CatchingUp::Waits;
        }
        scan.catch_up(keys);
        CatchingUp::Slice
    }
}

/// The rows of a rendering, and from when on they are complete.
fn read(installed: &BTreeMap<ViewId, Installed>, id: ViewId) -> (TraceAgent<SharedSpine<Row, ()>>, Epoch) {
    let read = installed.get(&id).expect("a view is installed before those that read it");
    (read.rows.clone(), read.flow.readable_from)
}

/// The sides of joins that are arranged in a dataflow of their own, each after those that it is made of. What stands
/// within a recursion changes with its rounds and cannot be shared.
fn joined_sides<'a>(relation: &'a Relation, sides: &mut Vec<&'a Keyed>) {
    if let Operator::Recursive { start, .. } = &relation.operator {
        return joined_sides(start, sides);
    }
    relation.inputs().into_iter().for_each(|input| joined_sides(input, sides));
    match &relation.operator {
        Operator::Join { left, right } => sides.extend([left, right]),
        Operator::Semijoin { left, .. } => sides.push(left),
        _ => {}
    }
}

/// Arranges failures by themselves, so that they can be read in order.
fn arrange_failures(
    failures: VecCollection<'_, Epoch, Failure, Diff>,
    keys: HashKeys,
    ending: &Ending,
) -> TraceAgent<SharedSpine<Failure, ()>> {
    let meter = Arc::new(Meter::new(Fingerprint::of("failures"), "failures").within(ending));
    let bytes = |failure: &Failure, (): &()| size_of_val(failure) + failure.input.len() + failure.reason.len();
    let failures = failures.map(|failure| (failure, ())).inner;
    render::arrange(failures, "Failures", meter, move |failure| keys.route(failure), bytes).trace
}
