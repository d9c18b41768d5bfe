//! Runs a relation on timely workers over a history of updates that arrive out of order, and keeps all that it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use differential_dataflow::VecCollection;
use differential_dataflow::input::InputSession;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::Operator as _;
use timely::dataflow::{ProbeHandle, Scope};
use timely::worker::Worker;

use crate::dataflow::ending::Ending;
use crate::dataflow::index::HashKeys;
use crate::dataflow::meter::{Measures, Meter};
use crate::dataflow::render::{Hydration, Index, Rendered, Renderer, Sources};
use crate::dataflow::shared_batch::Diff;
use crate::model::Epoch;
use crate::sql::testing::{Values, row, values};
use crate::sql::{Failure, Keyed, Operator, Relation, Row};

/// Draws a relation.
pub(super) fn render<'scope>(
    relation: &Arc<Relation>,
    scope: Scope<'scope, Epoch>,
    sources: &mut dyn Sources<'scope>,
) -> Rendered<'scope> {
    let mut renderer = Renderer::new(scope, sources);
    let rows = renderer.rows(relation);
    Rendered { rows, failures: renderer.failures() }
}

/// How often rows are there.
pub(super) type Bag = BTreeMap<Values, i64>;

/// One change of one source.
#[derive(Debug, Clone)]
pub(super) struct Update {
    pub(super) source: usize,
    pub(super) row: Values,
    pub(super) time: Epoch,
    pub(super) diff: Diff,
}

/// What sources say, in order of time, until some time.
#[derive(Debug, Clone)]
pub(super) struct History {
    pub(super) sources: usize,
    pub(super) updates: Vec<Update>,
    pub(super) end: Epoch,
}

impl History {
    /// Rows of two columns that come, and go again; at no time is one there less than not at all.
    pub(super) fn random(random: &mut StdRng, sources: usize, end: Epoch, changes: usize) -> Self {
        let mut there: Vec<(usize, Values)> = Vec::new();
        let mut times: Vec<Epoch> = (0..changes).map(|_| random.random_range(0..end)).collect();
        times.sort_unstable();
        let mut updates = Vec::new();
        for time in times {
            if !there.is_empty() && random.random_bool(0.45) {
                let (source, row) = there.swap_remove(random.random_range(0..there.len()));
                updates.push(Update { source, row, time, diff: -1 });
            } else {
                let source = random.random_range(0..sources);
                let mut value = || random.random_bool(0.9).then(|| random.random_range(0..7));
                let row = vec![value(), value()];
                there.push((source, row.clone()));
                updates.push(Update { source, row, time, diff: 1 });
            }
        }
        Self { sources, updates, end }
    }

    /// What the sources hold at a time.
    pub(super) fn at(&self, time: Epoch) -> Vec<Bag> {
        let mut bags = vec![Bag::new(); self.sources];
        for update in self.updates.iter().take_while(|update| update.time <= time) {
            *bags[update.source].entry(update.row.clone()).or_default() += update.diff as i64;
        }
        bags.iter_mut().for_each(|bag| bag.retain(|_, count| *count != 0));
        bags
    }
}

/// All that a relation said, and its meters on all workers.
#[derive(Default)]
pub(super) struct Said {
    pub(super) rows: Vec<(Row, Epoch, Diff)>,
    pub(super) failures: Vec<(Failure, Epoch, Diff)>,
    pub(super) meters: Vec<Arc<Meter>>,
}

impl Said {
    /// The rows, of so many columns, at a time.
    pub(super) fn at(&self, time: Epoch, columns: usize) -> Bag {
        let mut bag: BTreeMap<&Row, i64> = BTreeMap::new();
        for (row, _, diff) in self.rows.iter().filter(|(_, at, _)| *at <= time) {
            *bag.entry(row).or_default() += *diff as i64;
        }
        bag.into_iter().filter(|(_, count)| *count != 0).map(|(row, count)| (values(row, columns), count)).collect()
    }

    /// How many rows have failed at a time.
    pub(super) fn failures_at(&self, time: Epoch) -> i64 {
        let mut counts: BTreeMap<&Failure, i64> = BTreeMap::new();
        for (failure, _, diff) in self.failures.iter().filter(|(_, at, _)| *at <= time) {
            *counts.entry(failure).or_default() += *diff as i64;
        }
        assert!(counts.values().all(|count| *count >= 0), "a failure is taken away that is not there: {counts:?}");
        counts.values().sum()
    }
}

/// The sources of a test: views, named by their number.
pub(super) struct Inputs {
    pub(super) sessions: Vec<InputSession<Epoch, Row, Diff>>,
    pub(super) clock: InputSession<Epoch, Row, Diff>,
    pub(super) keys: HashKeys,
    pub(super) hydration: Hydration,
    pub(super) meters: Vec<Arc<Meter>>,
    /// To let what is drawn go.
    pub(super) ending: Ending,
}

impl Inputs {
    pub(super) fn new(sources: usize, keys: HashKeys) -> Self {
        let sessions = (0..sources).map(|_| InputSession::new()).collect();
        let (hydration, ending) = (Hydration::default(), Ending::default());
        Self { sessions, clock: InputSession::new(), keys, hydration, meters: Vec::new(), ending }
    }

    fn advance_to(&mut self, source: usize, time: Epoch) {
        self.sessions[source].advance_to(time);
        self.sessions[source].flush();
    }
}

impl<'scope> Sources<'scope> for Inputs {
    fn source(&mut self, scope: Scope<'scope, Epoch>, relation: &Arc<Relation>) -> Rendered<'scope> {
        let Operator::View { view } = &relation.operator else { panic!("tests read views") };
        let number: usize = view.parse().expect("named by its number");
        let rows = self.sessions[number].to_collection(scope);
        Rendered { failures: rows.clone().flat_map(|_| None), rows }
    }

    fn shared(&mut self, _scope: Scope<'scope, Epoch>, _side: &Keyed) -> Option<Index<'scope>> {
        None
    }

    fn clock(&mut self, scope: Scope<'scope, Epoch>) -> VecCollection<'scope, Epoch, Row, Diff> {
        self.clock.to_collection(scope)
    }

    fn meter(&mut self, relation: &Relation, part: &'static str) -> Arc<Meter> {
        let meter = Arc::new(Meter::new(relation.fingerprint, part).within(&self.ending));
        self.meters.push(Arc::clone(&meter));
        meter
    }

    fn hydration(&self) -> Hydration {
        self.hydration.clone()
    }

    fn hash_keys(&self) -> HashKeys {
        self.keys
    }
}

/// Keeps what a collection says; that it is said in time is checked here.
pub(super) fn keep<D>(
    collection: VecCollection<'_, Epoch, D, Diff>,
    probe: &ProbeHandle<Epoch>,
    kept: impl Fn(Vec<(D, Epoch, Diff)>) + 'static,
) where
    D: Clone + 'static,
{
    let passed = collection.inner.unary::<timely::container::CapacityContainerBuilder<Vec<()>>, _, _, _>(
        Pipeline,
        "Keep",
        |_capability, _info| {
            move |input, _output| {
                input.for_each(|time, updates| {
                    let least = *time.least().expect("updates are sent with a capability");
                    assert!(updates.iter().all(|(_, at, _)| *at >= least), "an update is earlier than it may be");
                    kept(std::mem::take(updates));
                });
            }
        },
    );
    passed.probe_with(probe);
}

/// Runs a relation that can be read from `readable_from` on, or a little before on some workers. Every worker is given a
/// random part of the updates, window by window of time, in any order within one; sources go ahead of each other.
pub(super) fn run(
    relation: &Arc<Relation>,
    history: &History,
    workers: usize,
    seed: u64,
    readable_from: Epoch,
) -> Said {
    let said = Arc::new(Mutex::new(Said::default()));
    let (relation, history, keys) = (Arc::clone(relation), history.clone(), HashKeys::random());
    let kept = Arc::clone(&said);
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let mut inputs = Inputs::new(history.sources, keys);
        let probe = ProbeHandle::new();
        worker.dataflow(|scope| {
            let Rendered { rows, failures } = render(&relation, scope, &mut inputs);
            let (rows_kept, failures_kept) = (Arc::clone(&kept), Arc::clone(&kept));
            keep(rows, &probe, move |mut rows| rows_kept.lock().unwrap().rows.append(&mut rows));
            keep(failures, &probe, move |mut failures| failures_kept.lock().unwrap().failures.append(&mut failures));
        });
        kept.lock().unwrap().meters.append(&mut inputs.meters.clone());
        inputs.hydration.readable_from(readable_from.saturating_sub(worker.index() as Epoch));
        feed(worker, &mut inputs, &history, &probe, seed);
        drop(inputs);
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
    });
    guards.expect("workers start").join().into_iter().for_each(|result| result.expect("no worker panics"));
    let mut said = said.lock().unwrap();
    std::mem::take(&mut *said)
}

fn feed(worker: &mut Worker, inputs: &mut Inputs, history: &History, probe: &ProbeHandle<Epoch>, seed: u64) {
    // What is decided for all workers alike, and what each decides for itself.
    let mut common = StdRng::seed_from_u64(seed);
    let mut own = StdRng::seed_from_u64(seed ^ (worker.index() as u64 + 1));
    let mut begins = 0;
    while begins < history.end {
        let ends = (begins + common.random_range(1..8)).min(history.end);
        let in_window = history.updates.iter().filter(|update| (begins..ends).contains(&update.time));
        let shares = in_window.map(|update| (common.random_range(0..worker.peers()), update));
        let mut share: Vec<_> = shares.filter(|(of, _)| *of == worker.index()).map(|(_, update)| update).collect();
        share.shuffle(&mut own);
        for source in 0..history.sources {
            for update in share.iter().filter(|update| update.source == source) {
                inputs.sessions[source].update_at(row(&update.row), update.time, update.diff);
                if own.random_bool(0.2) {
                    inputs.sessions[source].flush();
                    worker.step();
                }
            }
            inputs.advance_to(source, ends);
            for _ in 0..own.random_range(0..3) {
                worker.step();
            }
        }
        inputs.clock.advance_to(ends);
        inputs.clock.flush();
        begins = ends;
    }
    // All that is before the end is said before the sources end.
    while probe.less_than(&history.end) {
        worker.step();
    }
}

/// A relation that runs on this thread, an epoch at a time.
pub(super) struct Running<'a> {
    worker: &'a mut Worker,
    pub(super) inputs: Inputs,
    probe: ProbeHandle<Epoch>,
    pub(super) said: Arc<Mutex<Said>>,
    pub(super) epoch: Epoch,
}

/// Runs a relation on this thread.
pub(super) fn directly(
    relation: &Arc<Relation>,
    sources: usize,
    body: impl FnOnce(&mut Running<'_>) + Send + Sync + 'static,
) {
    let relation = Arc::clone(relation);
    timely::execute_directly(move |worker| {
        let (mut inputs, probe) = (Inputs::new(sources, HashKeys::random()), ProbeHandle::new());
        let said = Arc::<Mutex<Said>>::default();
        worker.dataflow(|scope| {
            let Rendered { rows, failures } = render(&relation, scope, &mut inputs);
            let (rows_kept, failures_kept) = (Arc::clone(&said), Arc::clone(&said));
            keep(rows, &probe, move |mut rows| rows_kept.lock().unwrap().rows.append(&mut rows));
            keep(failures, &probe, move |mut failures| failures_kept.lock().unwrap().failures.append(&mut failures));
        });
        body(&mut Running { worker, inputs, probe, said, epoch: 0 });
    });
}

impl Running<'_> {
    /// Changes how often a source has a row, from the present epoch on.
    pub(super) fn change(&mut self, source: usize, values: &[i64], diff: Diff) {
        let values: Values = values.iter().map(|value| Some(*value)).collect();
        self.inputs.sessions[source].update(row(&values), diff);
    }

    /// Ends the present epoch and goes on at another one, when all has been said of what is before it.
    pub(super) fn go_on_at(&mut self, epoch: Epoch) {
        self.end_before(epoch);
        while self.probe.less_than(&epoch) {
            self.worker.step();
        }
    }

    /// Ends the present epoch; another one is the present one then.
    pub(super) fn end_before(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        for session in self.inputs.sessions.iter_mut().chain([&mut self.inputs.clock]) {
            session.advance_to(epoch);
            session.flush();
        }
    }

    /// Does what there is to do for a moment.
    pub(super) fn step(&mut self) {
        self.worker.step();
    }

    /// What all operators together say they did and hold.
    pub(super) fn measures(&self) -> Measures {
        self.inputs.meters.iter().fold(Measures::default(), |sum, meter| sum + meter.read())
    }

    /// The rows, of so many columns, before the present epoch.
    pub(super) fn rows(&self, columns: usize) -> Bag {
        self.said.lock().unwrap().at(self.epoch - 1, columns)
    }
}
