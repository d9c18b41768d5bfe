//! The engine on records at hand, with every published view kept, and SQL views that come and go at given records.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tarn::clock::SystemClock;
use tarn::dataflow::{
    Binding, Counters, Cut, CutSink, Engine, EngineConfig, Floors, HashKeys, IgnoredLog, Ingest, IngestConfig,
    IngestShared, LogTime, Restored, ShardConfig,
};
use tarn::generate::{Generated, RESOURCES_TOPIC};
use tarn::http::write_resource;
use tarn::model::{Coordinates, Epoch, Position, Topics, plausible_ms};
use tarn::published::{HistoryLimits, Publisher, ReadView};
use tarn::service::views::Views;
use tarn::source::resubmitted::ResubmittedQueue;
use tarn::source::{Limit, Polled, RecordBatch, Source, SourceError, SourceStatus};
use tarn::sql::{QueryFile, Tables};

/// A record for the engine.
#[derive(Debug, Clone)]
pub struct Given {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub headers: Vec<(String, Option<String>)>,
    pub key: Option<String>,
    pub value: Option<Vec<u8>>,
}

impl From<&Generated> for Given {
    fn from(record: &Generated) -> Self {
        Self {
            topic: record.topic.to_owned(),
            partition: 0,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            headers: record.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            key: record.key.clone(),
            value: record.value.clone().map(String::into_bytes),
        }
    }
}

/// A source of records at hand.
struct Records {
    records: VecDeque<Given>,
    topics: Topics,
    given: usize,
    views: Views,
    steps: VecDeque<(usize, Vec<QueryFile>)>,
    last_ms: i64,
    ended: Option<Instant>,
}

/// Views that are not shown so long after the log has ended never will be.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);

impl Records {
    /// An epoch's worth of records that change nothing, where the log has ended and a view is not shown yet: what is shown
    /// changes with an epoch alone.
    fn fill(&mut self, batch: &mut RecordBatch, limit: Limit) {
        let ended = *self.ended.get_or_insert_with(Instant::now);
        if self.views.statuses().is_empty() || self.views.are_shown() || ended.elapsed() > SHOWN_WITHIN {
            return;
        }
        let topic = self.topics.intern(RESOURCES_TOPIC).expect("few topics");
        // Another partition than that of the log, so that its offsets are free; read over as a relationship of old times.
        let value = br#"{"specversion":"1.0","type":"redhat.inventory.resources_relationship.a_b.updated","data":{}}"#;
        while !limit.reached(batch) {
            let coordinates =
                Coordinates { topic, partition: 99, offset: i64::try_from(self.given).expect("few records") };
            batch.push_wire(coordinates, self.last_ms, None, Some(value), std::iter::empty());
            self.given += 1;
        }
    }
}

impl Source for Records {
    fn poll(&mut self, batch: &mut RecordBatch, _wait: Duration, limit: Limit) -> Result<Polled, SourceError> {
        while let Some((_, files)) = self.steps.pop_front_if(|(first, _)| *first <= self.given) {
            self.views.apply(files);
        }
        let mut first_ms = None;
        while !limit.reached(batch) {
            let next_ms = self.records.front().and_then(|record| plausible_ms(record.timestamp_ms));
            if limit.is_passed_by(first_ms, next_ms) {
                break;
            }
            first_ms = first_ms.or(next_ms);
            let Some(record) = self.records.pop_front() else { break };
            let topic = self.topics.intern(&record.topic).expect("few topics");
            let coordinates = Coordinates { topic, partition: record.partition, offset: record.offset };
            let headers =
                record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref().map(str::as_bytes)));
            let key = record.key.as_deref().map(str::as_bytes);
            batch.push_wire(coordinates, record.timestamp_ms, key, record.value.as_deref(), headers);
            self.last_ms = record.timestamp_ms;
            self.given += 1;
        }
        if batch.is_empty() && self.steps.is_empty() {
            self.fill(batch, limit);
        }
        Ok(if batch.is_empty() { Polled::End } else { Polled::Records })
    }

    fn has_reproducible_order(&self) -> bool {
        true
    }
}

/// A publisher that keeps every view.
struct Recorder {
    publisher: Arc<Publisher>,
    views: Mutex<Vec<Arc<ReadView>>>,
}

impl CutSink for Recorder {
    fn bind(&self, binding: Binding) {
        self.publisher.bind(binding);
    }

    fn deliver(&self, worker: usize, cut: Cut) {
        // Held meanwhile, so that nobody publishes the next one before this one is seen.
        let mut views = self.views.lock().expect("no deliverer panics");
        self.publisher.deliver(worker, cut);
        let view = self.publisher.view();
        if views.last().is_none_or(|last| last.epoch() < view.epoch()) {
            views.push(view);
        }
    }

    fn published(&self) -> Epoch {
        self.publisher.published()
    }

    fn floors(&self) -> Arc<Floors> {
        self.publisher.floors()
    }

    fn wait_published(&self, epoch: Epoch, wait: Duration) -> bool {
        self.publisher.wait_published(epoch, wait)
    }
}

/// How to run.
#[derive(Debug, Clone)]
pub struct Setup {
    pub workers: usize,
    pub epoch_records_max: usize,
    /// With none, one epoch at a time is on its way, so that every one of them is published and seen.
    pub in_flight_epochs_max: usize,
    /// The topics asked for; none: all that are about resources.
    pub topics: Vec<String>,
    pub shard: ShardConfig,
    pub resume: Position,
    /// What the workers begin with.
    pub restored: Restored,
    /// How many states they take back at a time.
    pub slice_states: usize,
    /// How many keys a view that begins reads at a time.
    pub slice_keys: usize,
    /// What was sealed after that, and is to be sealed again.
    pub bindings: Vec<(Epoch, Arc<Position>)>,
    pub resealing_bytes_max: usize,
    /// The SQL views.
    pub script: Script,
    /// How much of the past is kept.
    pub history: HistoryLimits,
}

/// Which SQL views there are to be, and from when on.
#[derive(Debug, Clone)]
pub struct Script {
    /// The tables that they read.
    pub tables: Arc<Tables>,
    /// With these the tables were made.
    pub topics: Topics,
    /// When so many records were read, the files are these; ascending.
    pub steps: Vec<(usize, Vec<QueryFile>)>,
}

impl Default for Script {
    fn default() -> Self {
        let topics = Topics::default();
        let tables = Tables::read(None, &topics).expect("tables that are always there");
        Self { tables: Arc::new(tables), topics, steps: Vec::new() }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            workers: 1,
            epoch_records_max: 1_000,
            in_flight_epochs_max: 0,
            topics: Vec::new(),
            shard: ShardConfig::default(),
            resume: Position::default(),
            restored: Restored::default(),
            slice_states: 7,
            slice_keys: 5,
            bindings: Vec::new(),
            resealing_bytes_max: usize::MAX,
            script: Script::default(),
            history: HistoryLimits::NONE,
        }
    }
}

/// What a run left behind.
pub struct Run {
    pub views: Vec<Arc<ReadView>>,
    pub publisher: Arc<Publisher>,
    pub topics: Topics,
    pub counters: Arc<Counters>,
    pub keys: HashKeys,
}

/// Runs the records to their end.
pub fn run(records: impl IntoIterator<Item = Given>, setup: &Setup) -> Run {
    let Script { tables, topics, steps } = setup.script.clone();
    let counters = Arc::new(Counters::default());
    let ignored = Arc::new(IgnoredLog::default());
    let keys = HashKeys::random();
    // No view is left behind because the machine is busy.
    let publisher = Arc::new(Publisher::of_everything(setup.workers, 0).keeping(setup.history));
    publisher.keep_history();
    let views = Views::new(None, tables, Arc::clone(&publisher));
    let mut steps = VecDeque::from(steps);
    while let Some((_, files)) = steps.pop_front_if(|(first, _)| *first == 0) {
        views.apply(files);
    }
    if !setup.script.steps.is_empty() {
        // It ends by itself, soon after it is told to; nobody waits for it.
        drop(views.watch(Duration::ZERO, || ()).expect("a thread"));
    }
    let recorder = Arc::new(Recorder { publisher: Arc::clone(&publisher), views: Mutex::default() });
    let sink = Arc::clone(&recorder) as Arc<dyn CutSink>;
    let config = EngineConfig {
        workers: setup.workers,
        limits: tarn::decode::Limits::default(),
        shard: setup.shard,
        idle_merge_effort: Some(1_000),
        slice_states: setup.slice_states,
        slice_keys: setup.slice_keys,
    };
    let engine = Engine::start(
        &config,
        keys,
        setup.restored.clone(),
        Arc::clone(&sink),
        Arc::clone(&counters),
        Arc::clone(&ignored),
    );
    let shared = IngestShared {
        sink,
        topics: topics.clone(),
        counters: Arc::clone(&counters),
        ignored: Arc::clone(&ignored),
        resubmitted: ResubmittedQueue::default(),
        status: SourceStatus::default(),
        stop: Arc::new(AtomicBool::new(false)),
        clock: Arc::new(SystemClock),
        views: views.log(),
    };
    let config = IngestConfig {
        epoch_records_max: setup.epoch_records_max,
        in_flight_epochs_max: setup.in_flight_epochs_max,
        topics: setup.topics.clone(),
        resume: setup.resume.clone(),
        resealing_bytes_max: setup.resealing_bytes_max,
        last_epoch: setup.bindings.last().map_or(0, |(epoch, _)| *epoch),
        bindings: setup.bindings.clone(),
        ..IngestConfig::default()
    };
    let records = records.into_iter().collect();
    let source =
        Records { records, topics: topics.clone(), given: 0, views: views.clone(), steps, last_ms: 0, ended: None };
    let ingest = Ingest::new(
        config,
        Box::new(source),
        Box::new(LogTime::default()),
        engine.expect("workers start"),
        Box::new(()),
        shared,
    );
    ingest.run().expect("records at hand do not fail");
    views.stop();
    let views = std::mem::take(&mut *recorder.views.lock().expect("no deliverer panics"));
    Run { views, publisher, topics, counters, keys }
}

impl Run {
    /// The last view.
    pub fn last(&self) -> &ReadView {
        self.views.last().expect("at least one epoch")
    }

    /// Every live resource of a view as the API shows it, by id.
    pub fn live(&self, view: &ReadView) -> BTreeMap<String, Value> {
        let states = view.all_states();
        let live = states.iter().filter(|state| state.is_live());
        live.map(|state| {
            let mut json = Vec::new();
            write_resource(&mut json, state, view.orphaned_by(state.id), &self.topics);
            (state.id.to_string(), serde_json::from_slice(&json).expect("a resource is JSON"))
        })
        .collect()
    }
}
