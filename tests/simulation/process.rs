//! One life of a service on one thread: what `service` puts together, with every loop taken step by step.
//!
//! Nothing runs by itself: the ingest polls when it is stepped, the worker folds when it is given a turn, the journal is
//! made durable and snapshots are taken when they are asked for. Whoever waits for the worker has it work.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tarn::clock::Clock;
use tarn::dataflow::{
    Binding, BindingLog, Counters, Cut, CutSink, Engine, EngineConfig, EpochSource, Floors, HashKeys, IgnoredLog,
    Ingest, IngestConfig, IngestShared, Reading, Restored, ShardConfig, SteppedWorker, ViewLog,
};
use tarn::durable::{Bindings, Durable, DurableError, Health, Machine, Snapshots, TakerConfig, Watched};
use tarn::model::{Epoch, Position, Topics};
use tarn::published::{Publisher, ReadView};
use tarn::snapshot::StoreKind;
use tarn::source::identity::IdentityHandle;
use tarn::source::resubmitted::ResubmittedQueue;
use tarn::source::{Source, SourceStatus};

use super::log::{SimulatedClock, topics};
use crate::support::simulated_files::SimulatedVfs;

pub type Bound = (Epoch, Arc<Position>);

thread_local! {
    /// The workers of this thread: a sink is shared between threads elsewhere, so it cannot hold its own.
    static WORKERS: RefCell<BTreeMap<u64, SteppedWorker>> = const { RefCell::new(BTreeMap::new()) };
}

/// More turns than anything takes that a worker was told.
const TURNS_MAX: usize = 100_000;

/// A publisher that keeps what it is told and what it shows, as long as its machine runs.
pub struct Recorder {
    publisher: Arc<Publisher>,
    vfs: Option<SimulatedVfs>,
    worker: u64,
    told: Mutex<Told>,
}

/// What a recorder has seen since it was last asked.
#[derive(Default)]
pub struct Told {
    pub bound: Vec<Bound>,
    pub shown: Vec<Arc<ReadView>>,
}

impl Recorder {
    fn runs(&self) -> bool {
        self.vfs.as_ref().is_none_or(|vfs| !vfs.stopped())
    }

    fn told<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        change(&mut self.told.lock().expect("nobody panics with what was told"))
    }

    /// Has the worker work for a turn.
    fn turn(&self) {
        let worker = WORKERS.with_borrow_mut(|workers| workers.remove(&self.worker));
        let mut worker = worker.expect("nobody waits for the worker from within its turn");
        worker.turn();
        WORKERS.with_borrow_mut(|workers| workers.insert(self.worker, worker));
    }
}

impl CutSink for Recorder {
    fn bind(&self, binding: Binding) {
        if self.runs() {
            self.told(|told| told.bound.push((binding.epoch, Arc::clone(&binding.position))));
        }
        self.publisher.bind(binding);
    }

    fn deliver(&self, worker: usize, cut: Cut) {
        let before = self.publisher.published();
        self.publisher.deliver(worker, cut);
        let view = self.publisher.view();
        // What comes behind the end of a machine was seen by nobody.
        if view.epoch() > before && self.runs() {
            self.told(|told| told.shown.push(view));
        }
    }

    fn published(&self) -> Epoch {
        self.publisher.published()
    }

    fn floors(&self) -> Arc<Floors> {
        self.publisher.floors()
    }

    fn wait_published(&self, epoch: Epoch, _wait: Duration) -> bool {
        for _ in 0..TURNS_MAX {
            if self.published() >= epoch {
                return true;
            }
            self.turn();
        }
        panic!("epoch {epoch} is never published");
    }
}

/// The source, the epochs and the journal of an ingest.
pub struct Inlets {
    pub source: Box<dyn Source>,
    pub epochs: Box<dyn EpochSource>,
    pub binding_log: Box<dyn BindingLog>,
    pub resubmitted: ResubmittedQueue,
    pub clock: Arc<dyn Clock>,
}

/// The dataflow and its ingest.
pub struct Pipeline {
    pub recorder: Arc<Recorder>,
    ingest: Option<Ingest>,
    reading: Option<Reading>,
    stop: Arc<AtomicBool>,
}

impl Pipeline {
    pub fn new(
        inlets: Inlets,
        shard: ShardConfig,
        ingest: IngestConfig,
        restored: Restored,
        topics: &Topics,
        vfs: Option<SimulatedVfs>,
    ) -> Self {
        static NEXT_WORKER: AtomicU64 = AtomicU64::new(0);
        let worker = NEXT_WORKER.fetch_add(1, Ordering::Relaxed);
        let publisher = Arc::new(Publisher::new(1, ingest.incarnation));
        let recorder = Arc::new(Recorder { publisher, vfs, worker, told: Mutex::default() });
        let sink = Arc::clone(&recorder) as Arc<dyn CutSink>;
        let (counters, ignored) = (Arc::new(Counters::default()), Arc::new(IgnoredLog::default()));
        let limits = tarn::decode::Limits::default();
        let (slice_states, slice_keys) = (7, 7);
        let config = EngineConfig { workers: 1, limits, shard, idle_merge_effort: None, slice_states, slice_keys };
        let (engine, stepped) = Engine::stepped(
            &config,
            HashKeys::random(),
            restored,
            Arc::clone(&sink),
            Arc::clone(&counters),
            Arc::clone(&ignored),
        );
        WORKERS.with_borrow_mut(|workers| workers.insert(worker, stepped));
        let stop = Arc::new(AtomicBool::new(false));
        let (topics, stopping) = (topics.clone(), Arc::clone(&stop));
        let Inlets { source, epochs, binding_log, resubmitted, clock } = inlets;
        let status = SourceStatus::default();
        let shared = IngestShared {
            sink,
            topics,
            counters,
            ignored,
            resubmitted,
            status,
            stop: stopping,
            clock,
            views: ViewLog::default(),
        };
        let ingest = Ingest::new(ingest, source, epochs, engine, binding_log, shared);
        let reading = Some(ingest.reading());
        Self { recorder, ingest: Some(ingest), reading, stop }
    }

    /// The ingest takes a step.
    pub fn step(&mut self) {
        let (ingest, reading) = self.ingest.as_mut().zip(self.reading.as_mut()).expect("it has not been stopped");
        ingest.step(reading).expect("the log can be read");
    }

    /// The worker works for a turn.
    pub fn turn(&self) {
        self.recorder.turn();
    }

    /// Waits until an epoch is shown.
    pub fn wait_for(&self, epoch: Epoch) {
        assert!(self.recorder.wait_published(epoch, Duration::ZERO));
    }

    /// What was told since the last time.
    pub fn told(&self) -> Told {
        self.recorder.told(std::mem::take)
    }

    pub fn view(&self) -> Arc<ReadView> {
        self.recorder.publisher.view()
    }

    /// Seals what was read and shows it.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let (ingest, reading) = self.ingest.take().zip(self.reading.take()).expect("it is stopped once");
        ingest.finish(reading, Ok(())).expect("the log can be read");
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Its dataflow would stay for ever otherwise.
        if let Some(worker) = WORKERS.with_borrow_mut(|workers| workers.remove(&self.recorder.worker))
            && !std::thread::panicking()
        {
            worker.end();
        }
    }
}

/// What a life began with.
pub struct Beginning {
    /// 0 without a snapshot.
    pub restored: Epoch,
    pub bindings: Vec<Bound>,
    pub incarnation: u64,
}

/// A life.
pub struct Process {
    pub pipeline: Pipeline,
    pub bindings: Bindings,
    pub snapshots: Snapshots,
    pub health: Arc<Health>,
}

/// The data directory.
pub const DATA: &str = "/data";

impl Process {
    /// Starts as `service::start` does; what was there before is shown when this returns, if the machine still runs.
    pub fn start(
        vfs: &SimulatedVfs,
        clock: &SimulatedClock,
        source: impl FnOnce(&Position, &Topics) -> Box<dyn Source>,
        epochs: Box<dyn EpochSource>,
        (shard, ingest): (ShardConfig, IngestConfig),
        seed: u64,
    ) -> Result<(Self, Beginning), DurableError> {
        let topics = topics();
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let machine = Machine {
            vfs: Arc::new(vfs.clone()),
            store: StoreKind::Files,
            clock: Arc::new(clock.clone()),
            random: Arc::new(move || random.lock().expect("nobody panics with the dice").random()),
        };
        let (durable, recovered) = Durable::open(Path::new(DATA), machine, &topics)?;
        let restored = recovered.restored.epoch;
        let beginning =
            Beginning { restored, bindings: recovered.bindings.clone(), incarnation: recovered.incarnation };
        let source = source(&recovered.position, &topics);
        let ingest = IngestConfig {
            ends_with_source: false,
            resume: recovered.position,
            bindings: recovered.bindings,
            last_epoch: recovered.last_epoch,
            incarnation: recovered.incarnation,
            ..ingest
        };
        let bindings = durable.bindings();
        let binding_log = Box::new(bindings.clone());
        let resubmitted = durable.resubmissions().queue();
        let inlets = Inlets { source, epochs, binding_log, resubmitted, clock: Arc::new(clock.clone()) };
        let mut pipeline = Pipeline::new(inlets, shard, ingest, recovered.restored, &topics, Some(vfs.clone()));
        if restored > 0 {
            pipeline.step();
            pipeline.wait_for(restored);
        }
        let health = durable.health();
        let config = TakerConfig { interval: Duration::ZERO, tombstone_retention_ms: shard.tombstone_retention_ms };
        let publisher = Arc::clone(&pipeline.recorder.publisher);
        let identity = Arc::new(Mutex::new(IdentityHandle::default()));
        let watched = Watched { publisher, topics, status: SourceStatus::default(), identity };
        let snapshots = durable.snapshots(config, watched);
        Ok((Self { pipeline, bindings, snapshots, health }, beginning))
    }
}
