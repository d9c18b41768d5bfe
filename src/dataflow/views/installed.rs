//! The views of one worker: installs and removes them, drives their scans, and hands over their batches.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::VecCollection;
use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::trace::implementations::ValBatcher;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Input;
use timely::worker::Worker;

use super::changes::ChangeFeed;
use super::log::{NewView, ViewCommand};
use super::scan::{Outlet, TableScan, ViewScan};
use super::tail::Tail;
use crate::dataflow::cut::{ViewCut, ViewId};
use crate::dataflow::graph::{self, Tables};
use crate::dataflow::render::{self, Rendered, Sources};
use crate::dataflow::shared_batch::{Diff, SharedSpine};
use crate::model::Epoch;
use crate::sql::{Failure, Operator, Relation, Row};

/// All views of a worker.
pub(in crate::dataflow) struct Views {
    feed: ChangeFeed,
    installed: BTreeMap<ViewId, Installed>,
}

/// One view: its dataflow is there until this is dropped.
struct Installed {
    rows: TraceAgent<SharedSpine<Row, ()>>,
    failures: TraceAgent<SharedSpine<Failure, ()>>,
    table_scans: Vec<TableScan>,
    view_scans: Vec<ViewScan>,
    /// Complete from this epoch on.
    readable_from: Epoch,
    /// The upper of the last cut.
    upper: Epoch,
}

/// What a view's dataflow reads, while it is drawn.
#[derive(Default)]
struct Drawn {
    sources: Vec<(SourceKey, Outlet)>,
}

/// What is read.
enum SourceKey {
    Table(Arc<Relation>),
    View(Arc<str>),
}

impl<'scope> Sources<'scope> for Drawn {
    fn source(&mut self, scope: Scope<'scope, Epoch>, relation: &Arc<Relation>) -> Rendered<'scope> {
        let mut outlet = Outlet::default();
        let rows = VecCollection::new(scope.input_from(&mut outlet.rows));
        let failures = VecCollection::new(scope.input_from(&mut outlet.failures));
        let key = match &relation.operator {
            Operator::View { view } => SourceKey::View(Arc::clone(view)),
            _ => SourceKey::Table(Arc::clone(relation)),
        };
        self.sources.push((key, outlet));
        Rendered { rows, failures }
    }
}

impl Views {
    /// The views of a worker whose tables are these; none yet.
    pub(in crate::dataflow) fn new(worker: &Worker, tables: &Tables) -> Self {
        Self { feed: ChangeFeed::new(worker, tables), installed: BTreeMap::new() }
    }

    /// Does what it is told.
    pub(in crate::dataflow) fn command(&mut self, worker: &mut Worker, command: &ViewCommand) {
        match command {
            ViewCommand::Install(view) => {
                let installed = self.install(worker, view);
                self.installed.insert(view.id, installed);
            }
            // Its inputs end with it, and its dataflow with them.
            ViewCommand::Remove(id) => drop(self.installed.remove(id)),
        }
    }

    fn install(&mut self, worker: &mut Worker, view: &NewView) -> Installed {
        let mut drawn = Drawn::default();
        let plan = &view.plan;
        let (rows, failures) = worker.dataflow_named(&plan.name, |scope| {
            let rendered = render::render(&plan.relation, scope, &mut drawn);
            let stored = render::apply(rendered.rows, &plan.stored);
            let failures = rendered.failures.concat(stored.failures);
            (arrange(stored.rows, "Rows"), arrange(failures, "Failures"))
        });
        let mut installed =
            Installed { rows, failures, table_scans: Vec::new(), view_scans: Vec::new(), readable_from: 0, upper: 0 };
        for (key, outlet) in drawn.sources {
            let from = match key {
                SourceKey::Table(relation) => {
                    let Operator::Table { table, columns, program } = &relation.operator else { continue };
                    let (batches, upper) = (self.feed.batches(), self.feed.upper());
                    let (table, columns, program) = (Arc::clone(table), columns.clone(), Arc::clone(program));
                    installed.table_scans.push(TableScan::new(table, columns, program, outlet, batches, upper));
                    upper.saturating_sub(1)
                }
                SourceKey::View(name) => {
                    let id = view.reads.get(&name).expect("a view says which renderings it reads");
                    let read = self.installed.get(id).expect("a view is installed before those that read it");
                    let scan = ViewScan::new(Tail::new(worker, &read.rows), outlet);
                    let from = scan.readable_from().max(read.readable_from);
                    installed.view_scans.push(scan);
                    from
                }
            };
            installed.readable_from = installed.readable_from.max(from);
        }
        installed
    }

    /// Feeds the views with what has changed, and lets new ones catch up a little; whether there is more to do at once.
    pub(in crate::dataflow) fn turn(&mut self) -> bool {
        let mut more = false;
        if let Some(changes) = self.feed.poll().map(Rc::new) {
            for scan in self.installed.values_mut().flat_map(|view| &mut view.table_scans) {
                scan.offer(&changes);
            }
        }
        // One at a time, the oldest first: what else is on its way waits for no more than a slice.
        let catching_up = self.installed.values_mut().flat_map(|view| &mut view.table_scans);
        more |= catching_up.into_iter().any(TableScan::catch_up);
        for scan in self.installed.values_mut().flat_map(|view| &mut view.view_scans) {
            more |= scan.turn();
        }
        more
    }

    /// Whether any view has come further since the last cut; compaction goes as far as `published`.
    pub(in crate::dataflow) fn advance(&mut self, published: Epoch) -> bool {
        let mut further = false;
        for view in self.installed.values_mut() {
            let (rows, failures) = (graph::upper(&mut view.rows), graph::upper(&mut view.failures));
            let upper = rows.min(failures);
            further |= upper > view.upper;
            view.upper = upper;
            graph::compact(&mut view.rows, published, rows);
            graph::compact(&mut view.failures, published, failures);
        }
        further
    }

    /// The batches of all views that are complete.
    pub(in crate::dataflow) fn cut(&mut self) -> Vec<ViewCut> {
        let complete = self.installed.iter_mut().filter(|(_, view)| view.upper > view.readable_from);
        complete
            .map(|(id, view)| ViewCut {
                id: *id,
                upper: view.upper,
                readable_from: view.readable_from,
                rows: graph::batches(&mut view.rows),
                failures: graph::batches(&mut view.failures),
            })
            .collect()
    }
}

/// Arranges rows by themselves, so that they can be read in order.
fn arrange<D>(updates: VecCollection<'_, Epoch, D, Diff>, name: &str) -> TraceAgent<SharedSpine<D, ()>>
where
    D: differential_dataflow::ExchangeData + std::hash::Hash + Send + Sync,
{
    let keyed = updates.map(|row| (row, ()));
    let by_row = Exchange::new(|update: &((D, ()), Epoch, Diff)| render::route(&(update.0).0));
    arrange_core::<_, _, _, SharedSpine<D, ()>>(keyed.inner, by_row, name, ValBatcher::<D, (), Epoch, Diff>::new).trace
}
