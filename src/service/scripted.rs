//! A service in small, whose time and records come from a script: for whoever wants to know what views become of events,
//! in milliseconds and without a clock.
//!
//! In: plans of views, then step by step a time and records. Out: the read view of each step. What is between is what
//! serves: decoding, fold, dataflow and publisher, with one worker on the caller's thread that works until the step is
//! visible. A step is one epoch, and that is its time. Nothing is kept, nothing is durable, nothing runs by itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::dataflow::{
    Counters, CutSink, Engine, EngineConfig, EpochSource, HashKeys, IgnoredLog, Ingest, IngestConfig, IngestShared,
    NewView, Reading, Restored, SteppedWorker, ViewCommand, ViewId, ViewLog,
};
use crate::model::{Coordinates, Epoch, Topics};
use crate::published::{Catalog, CatalogView, Publisher, ReadView};
use crate::source::resubmitted::ResubmittedQueue;
use crate::source::{Limit, Polled, RecordBatch, Source, SourceError, SourceStatus};
use crate::sql::ViewPlan;

/// More turns than any step takes: beyond, something never ends.
const TURNS_MAX: usize = 10_000_000;

/// A record as a script has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptedRecord {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, ms since 1970.
    pub timestamp_ms: i64,
    /// Names and values of the headers, in order.
    pub headers: Vec<(String, Option<String>)>,
    /// The key.
    pub key: Option<String>,
    /// The value.
    pub value: Option<String>,
}

/// The time and the records of the step that is taken.
#[derive(Debug, Default)]
struct Script {
    epoch: AtomicU64,
    records: Mutex<Vec<ScriptedRecord>>,
}

/// The records of a step, in one poll.
struct ScriptedSource {
    script: Arc<Script>,
    topics: Topics,
}

impl Source for ScriptedSource {
    fn poll(&mut self, batch: &mut RecordBatch, _wait: Duration, _limit: Limit) -> Result<Polled, SourceError> {
        let records = std::mem::take(&mut *self.script.records.lock().expect("no holder of the script panics"));
        for record in &records {
            let too_many = || SourceError::Setup("too many topics".to_owned());
            let topic = self.topics.intern(&record.topic).ok_or_else(too_many)?;
            let coordinates = Coordinates { topic, partition: record.partition, offset: record.offset };
            let bytes = |text: &'_ Option<String>| text.clone().map(String::into_bytes);
            let headers = record.headers.iter().map(|(name, value)| (&**name, value.as_deref().map(str::as_bytes)));
            let (key, value) = (bytes(&record.key), bytes(&record.value));
            batch.push_wire(coordinates, record.timestamp_ms, key.as_deref(), value.as_deref(), headers);
        }
        Ok(if batch.is_empty() { Polled::Nothing } else { Polled::Records })
    }

    fn has_reproducible_order(&self) -> bool {
        true
    }
}

/// The time of the step.
struct ScriptedTime(Arc<Script>);

impl EpochSource for ScriptedTime {
    fn next(&mut self, last: Epoch, _newest_timestamp_ms: Option<i64>) -> Epoch {
        self.0.epoch.load(Ordering::Relaxed).max(last + 1)
    }

    fn believes(&self, _timestamp_ms: i64) -> bool {
        false
    }

    fn waits_for_records(&self) -> bool {
        false
    }

    fn end(&self) -> Option<Epoch> {
        None
    }
}

/// A service that takes a step when it is told to.
pub struct Scripted {
    script: Arc<Script>,
    publisher: Arc<Publisher>,
    ingest: Ingest,
    reading: Reading,
    /// None once it is dropped.
    worker: Option<SteppedWorker>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scripted(at {})", self.publisher.published())
    }
}

impl Scripted {
    /// A service with these views, each after those that it reads, and nothing in it.
    pub fn new(config: &Config, topics: &Topics, plans: &[Arc<ViewPlan>]) -> Self {
        let script = Arc::new(Script::default());
        let publisher = Arc::new(Publisher::of_everything(1, 0));
        let sink = Arc::clone(&publisher) as Arc<dyn CutSink>;
        let (counters, ignored) = (Arc::new(Counters::default()), Arc::new(IgnoredLog::default()));
        let engine = EngineConfig { workers: 1, idle_merge_effort: None, ..config.engine() };
        let (engine, worker) = Engine::stepped(
            &engine,
            HashKeys::random(),
            Restored::default(),
            Arc::clone(&sink),
            Arc::clone(&counters),
            Arc::clone(&ignored),
        );
        let views = ViewLog::default();
        publisher.want(Arc::new(installed(plans, &views)));
        let shared = IngestShared {
            sink,
            topics: topics.clone(),
            counters,
            ignored,
            resubmitted: ResubmittedQueue::default(),
            status: SourceStatus::default(),
            stop: Arc::default(),
            // It tells nothing but how long a step takes.
            clock: Arc::new(SystemClock),
            views,
        };
        // Every step of the ingest seals what it read, or nothing.
        let ingest = IngestConfig {
            seal_interval: Duration::ZERO,
            idle_seal_interval: Duration::ZERO,
            commit_interval: Duration::MAX,
            ends_with_source: false,
            ..IngestConfig::default()
        };
        let source = Box::new(ScriptedSource { script: Arc::clone(&script), topics: topics.clone() });
        let time = Box::new(ScriptedTime(Arc::clone(&script)));
        let ingest = Ingest::new(ingest, source, time, engine, Box::new(()), shared);
        let reading = ingest.reading();
        Self { script, publisher, ingest, reading, worker: Some(worker) }
    }

    /// Takes a step: these records, all at this time, which is later than that of the step before. What there is then.
    pub fn step(&mut self, epoch: Epoch, records: Vec<ScriptedRecord>) -> Arc<ReadView> {
        let before = self.publisher.published();
        assert!(epoch > before, "a step is later than the one before: {epoch} after {before}");
        self.script.epoch.store(epoch, Ordering::Relaxed);
        *self.script.records.lock().expect("no holder of the script panics") = records;
        self.ingest.step(&mut self.reading).expect("a script can be read, and names few topics");
        let worker = self.worker.as_mut().expect("there until it is dropped");
        for _ in 0..TURNS_MAX {
            if self.publisher.published() >= epoch {
                return self.publisher.view();
            }
            worker.turn();
        }
        panic!("the step at {epoch} never ends");
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        // Its dataflow would stay for ever otherwise.
        if let Some(worker) = self.worker.take()
            && !std::thread::panicking()
        {
            worker.end();
        }
    }
}

/// The catalog of these plans, each told to whoever follows the log.
fn installed(plans: &[Arc<ViewPlan>], log: &ViewLog) -> Catalog {
    let mut ids: BTreeMap<Arc<str>, ViewId> = BTreeMap::new();
    let views = (1..).map(ViewId).zip(plans).map(|(id, plan)| {
        let reads = plan.reads.iter().map(|name| (Arc::clone(name), ids[name])).collect();
        log.append(ViewCommand::Install(Arc::new(NewView { id, plan: Arc::clone(plan), reads })));
        ids.insert(Arc::clone(&plan.name), id);
        Arc::new(CatalogView { id, plan: Arc::clone(plan), since_ms: 0 })
    });
    Catalog::new(views)
}
