//! A view that comes while there is something to read, with one worker that is given its turns one by one: everybody
//! else's epochs do not wait for it, however much it has to read, and it tells what it holds once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tarn::clock::SystemClock;
use tarn::dataflow::{
    Counters, CutSink, Engine, EngineConfig, HashKeys, IgnoredLog, Ingest, IngestConfig, IngestShared, LogTime,
    NewView, Reading, Restored, ShardConfig, SteppedWorker, ViewCommand, ViewId, ViewLog,
};
use tarn::model::{Coordinates, Topics};
use tarn::published::{Catalog, CatalogView, Publisher};
use tarn::source::resubmitted::ResubmittedQueue;
use tarn::source::{Limit, Polled, RecordBatch, Source, SourceError, SourceStatus};
use tarn::sql::{QueryFile, Tables, ViewPlan, plan_queries};

use super::events::{Event, START_MS, tables};
use crate::support::engine::Given;

/// Records that are given when they are there, all at once.
struct Queue(Arc<Mutex<VecDeque<Given>>>, Topics);

impl Source for Queue {
    fn poll(&mut self, batch: &mut RecordBatch, _wait: Duration, _limit: Limit) -> Result<Polled, SourceError> {
        let records = std::mem::take(&mut *self.0.lock().expect("no holder panics"));
        for record in records {
            let topic = self.1.intern(&record.topic).expect("few topics");
            let at = Coordinates { topic, partition: record.partition, offset: record.offset };
            let headers = record.headers.iter().map(|(name, value)| (&**name, value.as_deref().map(str::as_bytes)));
            let key = record.key.as_deref().map(str::as_bytes);
            batch.push_wire(at, record.timestamp_ms, key, record.value.as_deref(), headers);
        }
        Ok(if batch.is_empty() { Polled::Nothing } else { Polled::Records })
    }

    fn has_reproducible_order(&self) -> bool {
        true
    }
}

/// A pipeline that works when it is told to.
struct Pipeline {
    publisher: Arc<Publisher>,
    views: ViewLog,
    records: Arc<Mutex<VecDeque<Given>>>,
    ingest: Ingest,
    reading: Reading,
    worker: SteppedWorker,
    given: u64,
}

impl Pipeline {
    fn new(topics: &Topics, slice_keys: usize) -> Self {
        let config = EngineConfig {
            workers: 1,
            limits: tarn::decode::Limits::default(),
            shard: ShardConfig::default(),
            idle_merge_effort: None,
            slice_states: 1_000,
            slice_keys,
        };
        let publisher = Arc::new(Publisher::new(1, 0));
        let sink = Arc::clone(&publisher) as Arc<dyn CutSink>;
        let (counters, ignored) = (Arc::new(Counters::default()), Arc::new(IgnoredLog::default()));
        let (to_sink, counted, noted) = (Arc::clone(&sink), Arc::clone(&counters), Arc::clone(&ignored));
        let (engine, worker) =
            Engine::stepped(&config, HashKeys::random(), Restored::default(), to_sink, counted, noted);
        let (views, records) = (ViewLog::default(), Arc::default());
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
            seal_interval: Duration::ZERO,
            in_flight_epochs_max: usize::MAX,
            ends_with_source: false,
            ..IngestConfig::default()
        };
        let source = Box::new(Queue(Arc::clone(&records), topics.clone()));
        let ingest = Ingest::new(config, source, Box::new(LogTime::default()), engine, Box::new(()), shared);
        let reading = ingest.reading();
        Self { publisher, views, records, ingest, reading, worker, given: 0 }
    }

    /// An epoch in which these resources get another count each; how many turns it takes until it is shown.
    fn epoch(&mut self, numbers: std::ops::Range<u64>) -> usize {
        for number in numbers {
            let event = Event {
                number,
                kind: "gadget".to_owned(),
                operation: if self.given == number { "created" } else { "updated" }.to_owned(),
                local_id: format!("gadget-{number}"),
                workspace: None,
                version: None,
                data: Some(json!({"count": self.given})),
                reported_ms: None,
                at_ms: START_MS + self.given * 10,
            };
            self.records.lock().expect("no holder panics").push_back(event.record(self.given));
            self.given += 1;
        }
        let before = self.publisher.published();
        // It reads them, then sees that there are no more, which ends the epoch.
        self.ingest.step(&mut self.reading).expect("records at hand do not fail");
        self.ingest.step(&mut self.reading).expect("records at hand do not fail");
        let turns = (1..10_000).find(|_| {
            self.worker.turn();
            self.publisher.published() > before
        });
        turns.expect("an epoch is shown")
    }

    fn install(&self, plan: &Arc<ViewPlan>) {
        let id = ViewId(1);
        let new = NewView { id, plan: Arc::clone(plan), reads: BTreeMap::new() };
        self.views.append(ViewCommand::Install(Arc::new(new)));
        let view = Arc::new(CatalogView { id, plan: Arc::clone(plan), since_ms: 0 });
        self.publisher.want(Arc::new(Catalog::new([view])));
    }
}

fn plan(sql: &str, tables: &Tables) -> Arc<ViewPlan> {
    let planned = plan_queries(&[QueryFile::new("late", sql)], tables);
    assert!(planned.refusals.is_empty(), "{:?}", planned.refusals);
    Arc::clone(&planned.views[0])
}

#[test]
fn epochs_do_not_wait_for_a_view_that_hydrates_and_it_tells_each_group_once() {
    const RESOURCES: u64 = 4_000;
    const SLICE: usize = 16;
    let topics = Topics::default();
    let tables = tables(&topics);
    // The only group changes with every slice.
    let sql = "SELECT enabled, count(*) AS gadgets, max(count) AS most FROM gadget GROUP BY enabled";
    let plan = plan(sql, &tables);
    let mut pipeline = Pipeline::new(&topics, SLICE);
    pipeline.epoch(0..RESOURCES);
    let quiet = (0..20).map(|number| pipeline.epoch(number..number + 1)).max().unwrap();
    pipeline.install(&plan);
    let (mut epochs, mut slowest) = (0, 0);
    while !pipeline.publisher.shows_what_is_wanted() {
        let turns = pipeline.epoch(epochs..epochs + 1);
        // The one that shows it waits for the last steps of the view, which go by the clock and not by turns.
        if !pipeline.publisher.shows_what_is_wanted() {
            slowest = slowest.max(turns);
        }
        epochs += 1;
        assert!(epochs < RESOURCES, "the view is never shown");
    }
    // A turn has a slice at most, so it takes this many epochs at least until all is read.
    assert!(epochs as usize * slowest >= RESOURCES as usize / SLICE, "{epochs} epochs of {slowest} turns");
    assert!(slowest <= quiet + 3, "an epoch took {slowest} turns, and {quiet} while nothing came");
    let cost = pipeline.publisher.view().view_cost(ViewId(1));
    let rows = cost.own.iter().find(|part| part.part == "rows").expect("it keeps its rows");
    // One group, told once, and then before and after each epoch that came meanwhile or since.
    assert_eq!(rows.measures.rows, 1);
    assert!(rows.measures.updates_in <= 1 + 2 * epochs, "{:?} after {epochs} epochs", rows.measures);
    pipeline.worker.end();
}
