//! The pipeline on one thread, a change an epoch: what a change costs, and nothing else.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tarn::clock::SystemClock;
use tarn::dataflow::{
    Counters, CutSink, Engine, EngineConfig, HashKeys, IgnoredLog, Ingest, IngestConfig, IngestShared, LogTime,
    Reading, Restored, SLICE_KEYS, SLICE_STATES, ShardConfig, SteppedWorker, ViewLog,
};
use tarn::generate::{FaultRates, Generated, Generator, GeneratorConfig, Popularity};
use tarn::model::{Coordinates, Topics};
use tarn::published::Publisher;
use tarn::source::resubmitted::ResubmittedQueue;
use tarn::source::{Limit, Polled, RecordBatch, Source, SourceError, SourceStatus};

/// Records that are given one at a time.
struct Given {
    records: Arc<Mutex<VecDeque<Generated>>>,
    topics: Topics,
}

impl Source for Given {
    fn poll(&mut self, batch: &mut RecordBatch, _wait: Duration, limit: Limit) -> Result<Polled, SourceError> {
        let mut records = self.records.lock().unwrap();
        let mut polled = Polled::Nothing;
        while !limit.reached(batch)
            && let Some(record) = records.pop_front()
        {
            polled = Polled::Records;
            let topic = self.topics.intern(record.topic).unwrap();
            let at = Coordinates { topic, partition: 0, offset: record.offset };
            let headers = record.headers.iter().map(|(name, value)| (*name, value.as_deref().map(str::as_bytes)));
            let key = record.key.as_deref().map(str::as_bytes);
            let value = record.value.as_deref().map(str::as_bytes);
            batch.push_wire(at, record.timestamp_ms, key, value, headers);
        }
        Ok(polled)
    }

    fn has_reproducible_order(&self) -> bool {
        true
    }
}

/// A state of so many resources, a log of changes, and the worker between.
pub struct Stepped {
    pub publisher: Arc<Publisher>,
    pub views: ViewLog,
    ingest: Ingest,
    reading: Reading,
    worker: Option<SteppedWorker>,
    records: Arc<Mutex<VecDeque<Generated>>>,
    generator: Generator,
}

impl Stepped {
    /// A pipeline whose resources are all there, and that takes a change an epoch from now on.
    pub fn new(resources: usize) -> Self {
        let faults = FaultRates::default();
        let config = GeneratorConfig { resources, popularity: Popularity::Sweep, faults, ..Default::default() };
        let mut loading = Self::start(Generator::new(config), Restored::default(), 10_000);
        let some: Vec<Generated> = loading.generator.by_ref().take(resources).collect();
        loading.records.lock().unwrap().extend(some);
        while !loading.records.lock().unwrap().is_empty() {
            loading.step();
        }
        loading.step();
        let restored = loading.publisher.view().contents();
        let Self { generator, worker, .. } = loading;
        worker.unwrap().end();
        let mut stepped = Self::start(generator, restored, 1);
        stepped.change();
        stepped
    }

    fn start(generator: Generator, restored: Restored, epoch_records_max: usize) -> Self {
        let topics = Topics::default();
        let records = Arc::<Mutex<VecDeque<Generated>>>::default();
        let publisher = Arc::new(Publisher::new(1, 0));
        let sink = Arc::clone(&publisher) as Arc<dyn CutSink>;
        let (counters, ignored) = (Arc::new(Counters::default()), Arc::new(IgnoredLog::default()));
        let limits = tarn::decode::Limits::default();
        let shard = ShardConfig::default();
        let (slice_states, slice_keys) = (SLICE_STATES, SLICE_KEYS);
        let engine =
            EngineConfig { workers: 1, limits, shard, idle_merge_effort: Some(10_000), slice_states, slice_keys };
        let (last_epoch, keys) = (restored.epoch, HashKeys::random());
        let (counted, noted) = (Arc::clone(&counters), Arc::clone(&ignored));
        let (engine, worker) = Engine::stepped(&engine, keys, restored, Arc::clone(&sink), counted, noted);
        let views = ViewLog::default();
        let shared = IngestShared {
            sink,
            topics: topics.clone(),
            counters,
            ignored,
            resubmitted: ResubmittedQueue::default(),
            status: SourceStatus::default(),
            stop: Arc::new(AtomicBool::new(false)),
            clock: Arc::new(SystemClock),
            views: views.clone(),
        };
        let config = IngestConfig {
            epoch_records_max,
            in_flight_epochs_max: usize::MAX,
            ends_with_source: false,
            last_epoch,
            seal_interval: Duration::ZERO,
            ..IngestConfig::default()
        };
        let source = Given { records: Arc::clone(&records), topics };
        let ingest = Ingest::new(config, Box::new(source), Box::new(LogTime::default()), engine, Box::new(()), shared);
        let reading = ingest.reading();
        Self { publisher, views, ingest, reading, worker: Some(worker), records, generator }
    }

    /// The ingest takes a step, and the worker works until there is nothing left to do.
    fn step(&mut self) {
        self.ingest.step(&mut self.reading).unwrap();
        for _ in 0..20 {
            self.worker.as_mut().unwrap().turn();
        }
    }

    /// The next change, made visible; how long it took from its record on.
    pub fn change(&mut self) -> Duration {
        let record = self.generator.next().unwrap();
        self.records.lock().unwrap().push_back(record);
        let (before, began) = (self.publisher.published(), Instant::now());
        self.ingest.step(&mut self.reading).unwrap();
        while self.publisher.published() == before {
            self.worker.as_mut().unwrap().turn();
        }
        began.elapsed()
    }

    /// Works until what is wanted is shown; how long that took.
    pub fn show(&mut self) -> Duration {
        let began = Instant::now();
        while !self.publisher.shows_what_is_wanted() {
            self.change();
        }
        began.elapsed()
    }
}
