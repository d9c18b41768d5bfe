//! What a dataflow of SQL is connected to while it is drawn, and what keeps it alive afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use differential_dataflow::VecCollection;
use differential_dataflow::operators::arrange::{ShutdownButton, TraceAgent};
use timely::dataflow::Scope;
use timely::dataflow::operators::{CapabilitySet, Input, Probe};
use timely::worker::Worker;

use super::changes::ChangeFeed;
use super::scan::{Outlet, TableScan, ViewScan};
use super::tail::Tail;
use crate::dataflow::cut::{SharedUse, ViewId};
use crate::dataflow::ending::Ending;
use crate::dataflow::index::HashKeys;
use crate::dataflow::meter::Meter;
use crate::dataflow::render::{ByKeyTrace, Hydration, Index, Rendered, Sources};
use crate::dataflow::shared_batch::{Diff, SharedSpine};
use crate::model::Epoch;
use crate::sql::{Failure, Fingerprint, Keyed, Operator, Relation, Row};

/// Names a shared arrangement: what it holds, by which key, of which renderings of views.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::dataflow) struct SharedKey {
    input: Fingerprint,
    key: String,
    reads: Vec<ViewId>,
}

impl SharedKey {
    /// Of a side of a join in a query that reads these renderings.
    pub(in crate::dataflow) fn of(side: &Keyed, reads: &BTreeMap<Arc<str>, ViewId>) -> Self {
        let mut read = Vec::new();
        views_of(&side.input, &mut |name| read.extend(reads.get(name).copied()));
        read.sort_unstable();
        read.dedup();
        Self { input: side.input.fingerprint, key: side.key.description(), reads: read }
    }
}

fn views_of(relation: &Relation, each: &mut dyn FnMut(&Arc<str>)) {
    if let Operator::View { view } = &relation.operator {
        each(view);
    }
    relation.inputs().into_iter().for_each(|input| views_of(input, each));
}

/// An arrangement that several dataflows read.
pub(in crate::dataflow) struct SharedArrangement {
    pub(in crate::dataflow) rows: ByKeyTrace,
    pub(in crate::dataflow) failures: TraceAgent<SharedSpine<Failure, ()>>,
    pub(in crate::dataflow) flow: Flow,
    /// Who reads it, and what it costs.
    pub(in crate::dataflow) shown: Arc<SharedUse>,
}

/// What keeps a dataflow going; when it is dropped its inputs end, and it with them.
#[derive(Default)]
pub(in crate::dataflow) struct Flow {
    pub(in crate::dataflow) table_scans: Vec<TableScan>,
    pub(in crate::dataflow) view_scans: Vec<ViewScan>,
    pub(in crate::dataflow) clocks: Vec<Outlet>,
    pub(in crate::dataflow) shared: Vec<SharedKey>,
    pub(in crate::dataflow) meters: Vec<Arc<Meter>>,
    /// Complete from this epoch on.
    pub(in crate::dataflow) readable_from: Epoch,
    imports: Vec<Import>,
    /// Told when it is dropped, before any of its inputs ends.
    pub(in crate::dataflow) ending: Ending,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.ending.begin();
    }
}

/// An arrangement of another dataflow, read until this is dropped.
struct Import(ShutdownButton<CapabilitySet<Epoch>>);

impl Drop for Import {
    fn drop(&mut self) {
        self.0.press();
    }
}

/// What is read.
enum Source {
    Table(Arc<Relation>),
    View(Arc<str>),
    Clock,
}

/// What a dataflow reads, while it is drawn.
pub(in crate::dataflow) struct Drawing<'a> {
    shared: &'a mut BTreeMap<SharedKey, SharedArrangement>,
    reads: &'a BTreeMap<Arc<str>, ViewId>,
    keys: HashKeys,
    sources: Vec<(Source, Outlet)>,
    hydration: Hydration,
    flow: Flow,
}

impl<'a> Drawing<'a> {
    /// Nothing yet, of a query that reads these renderings.
    pub(in crate::dataflow) fn new(
        shared: &'a mut BTreeMap<SharedKey, SharedArrangement>,
        reads: &'a BTreeMap<Arc<str>, ViewId>,
        keys: HashKeys,
        ending: Ending,
    ) -> Self {
        let mut flow = Flow::default();
        flow.ending = ending;
        Self { shared, reads, keys, sources: Vec::new(), hydration: Hydration::default(), flow }
    }

    fn outlet<'scope>(&mut self, scope: Scope<'scope, Epoch>, source: Source, meter: Arc<Meter>) -> Rendered<'scope> {
        let mut outlet = Outlet::new(meter);
        let rows = scope.input_from(&mut outlet.rows).probe_with(&outlet.everywhere);
        let rows = VecCollection::new(rows);
        let failures = VecCollection::new(scope.input_from(&mut outlet.failures));
        self.sources.push((source, outlet));
        Rendered { rows, failures }
    }

    /// Begins to feed what was drawn, with so many keys at a time of what is there. `read` gives the rows of a rendering, and from when on they are complete.
    pub(in crate::dataflow) fn begin(
        self,
        worker: &Worker,
        feed: &ChangeFeed,
        slice_keys: usize,
        read: impl Fn(ViewId) -> (TraceAgent<SharedSpine<Row, ()>>, Epoch),
    ) -> Flow {
        let mut flow = self.flow;
        for (source, outlet) in self.sources {
            let from = match source {
                Source::Table(relation) => {
                    let Operator::Table { table, columns, program } = &relation.operator else { continue };
                    let (table, columns, program) = (Arc::clone(table), columns.clone(), Arc::clone(program));
                    let (batches, upper) = (feed.batches(), feed.upper());
                    let scan = TableScan::new(table, columns, program, outlet, (batches, upper), slice_keys);
                    flow.table_scans.push(scan);
                    upper.saturating_sub(1)
                }
                Source::View(name) => {
                    let id = self.reads.get(&name).expect("a view says which renderings it reads");
                    let (rows, from) = read(*id);
                    let scan = ViewScan::new(Tail::new(worker, &rows), outlet, slice_keys);
                    let from = scan.readable_from().max(from);
                    flow.view_scans.push(scan);
                    from
                }
                Source::Clock => {
                    flow.clocks.push(outlet);
                    0
                }
            };
            flow.readable_from = flow.readable_from.max(from);
        }
        self.hydration.readable_from(flow.readable_from);
        flow
    }
}

impl<'scope> Sources<'scope> for Drawing<'_> {
    fn source(&mut self, scope: Scope<'scope, Epoch>, relation: &Arc<Relation>) -> Rendered<'scope> {
        let source = match &relation.operator {
            Operator::View { view } => Source::View(Arc::clone(view)),
            _ => Source::Table(Arc::clone(relation)),
        };
        let meter = self.meter(relation, "read");
        self.outlet(scope, source, meter)
    }

    fn shared(&mut self, scope: Scope<'scope, Epoch>, side: &Keyed) -> Option<Index<'scope>> {
        let key = SharedKey::of(side, self.reads);
        let shared = self.shared.get_mut(&key)?;
        let (rows, rows_button) = shared.rows.import_core(scope, "Shared");
        let (failures, failures_button) = shared.failures.import_core(scope, "SharedFailures");
        self.flow.imports.extend([Import(rows_button), Import(failures_button)]);
        self.flow.readable_from = self.flow.readable_from.max(shared.flow.readable_from);
        shared.shown.acquire();
        self.flow.shared.push(key);
        Some(Index { rows, failures: failures.as_collection(|failure, ()| failure.clone()) })
    }

    fn clock(&mut self, scope: Scope<'scope, Epoch>) -> VecCollection<'scope, Epoch, Row, Diff> {
        let nothing = Arc::new(Meter::new(Fingerprint::of("clock"), "clock"));
        self.outlet(scope, Source::Clock, nothing).rows
    }

    fn meter(&mut self, relation: &Relation, part: &'static str) -> Arc<Meter> {
        let meter = Arc::new(Meter::new(relation.fingerprint, part).within(&self.flow.ending));
        self.flow.meters.push(Arc::clone(&meter));
        meter
    }

    fn hydration(&self) -> Hydration {
        self.hydration.clone()
    }

    fn hash_keys(&self) -> HashKeys {
        self.keys
    }
}
