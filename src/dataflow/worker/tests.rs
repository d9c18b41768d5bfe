//! What a worker keeps of a view that is behind what is shown, and how a view catches up that reads several tables.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Engine, EngineConfig, SteppedWorker};
use crate::dataflow::cut::{Binding, Cut, CutSink, Floors, ViewCut, ViewId};
use crate::dataflow::views::{NewView, ViewCommand};
use crate::dataflow::{Counters, HashKeys, IgnoredLog, Restored, ShardConfig};
use crate::decode::Limits;
use crate::model::{Coordinates, Epoch, Topics};
use crate::source::RecordBatch;
use crate::sql::{QueryFile, Tables, ViewPlan, plan_queries};

/// Shows every cut.
#[derive(Default)]
struct Shown {
    published: AtomicU64,
    views: Mutex<Vec<ViewCut>>,
}

impl CutSink for Shown {
    fn bind(&self, _binding: Binding) {}

    fn deliver(&self, _worker: usize, cut: Cut) {
        self.published.store(cut.upper - 1, Ordering::Release);
        *self.views.lock().unwrap() = cut.views;
    }

    fn published(&self) -> Epoch {
        self.published.load(Ordering::Acquire)
    }

    fn wait_published(&self, _epoch: Epoch, _wait: Duration) -> bool {
        true
    }
}

impl Shown {
    /// How many rows a view has, and at which epoch.
    fn rows(&self, id: ViewId) -> Option<(Epoch, isize)> {
        let views = self.views.lock().unwrap();
        let view = views.iter().find(|view| view.id == id)?;
        let last = view.upper - 1;
        Some((last, view.rows.iter().map(|batch| batch.total(last)).sum()))
    }
}

/// A worker on which rejected records come, one an epoch.
struct Rejecting {
    engine: Engine,
    worker: SteppedWorker,
    shown: Arc<Shown>,
    epoch: Epoch,
}

impl Rejecting {
    fn new() -> Self {
        let config = EngineConfig {
            workers: 1,
            limits: Limits::default(),
            shard: ShardConfig::default(),
            idle_merge_effort: None,
            slice_states: 10,
            slice_keys: 10,
        };
        let shown = Arc::new(Shown::default());
        let sink = Arc::clone(&shown) as Arc<dyn CutSink>;
        let (counters, ignored) = (Arc::new(Counters::default()), Arc::new(IgnoredLog::default()));
        let (engine, worker) =
            Engine::stepped(&config, HashKeys::random(), Restored::default(), sink, counters, ignored);
        Self { engine, worker, shown, epoch: 0 }
    }

    fn install(&mut self, id: u64, plan: &Arc<ViewPlan>, reads: &[(&str, u64)]) {
        let reads = reads.iter().map(|(name, id)| (Arc::from(*name), ViewId(*id))).collect();
        let view = NewView { id: ViewId(id), plan: Arc::clone(plan), reads };
        self.engine.view(&ViewCommand::Install(Arc::new(view)));
    }

    /// An epoch with a record that cannot be read, until it is shown.
    fn go_on(&mut self) {
        self.epoch += 1;
        let topic = Topics::default().intern("outbox.event.kessel.resources").expect("few topics");
        let coordinates = Coordinates { topic, partition: 0, offset: i64::try_from(self.epoch).unwrap() };
        let mut batch = RecordBatch::new();
        batch.push_wire(coordinates, 1_800_000_000_000, None, Some(b"no JSON"), std::iter::empty());
        self.engine.begin(self.epoch);
        self.engine.records(batch);
        self.engine.seal(self.epoch);
        for _ in 0..1_000 {
            self.worker.turn();
        }
        assert_eq!(self.shown.published(), self.epoch);
    }
}

#[test]
fn what_begins_to_read_a_view_that_is_behind_reads_all_that_it_had_last() {
    let texts = [("base", r#"SELECT "offset" FROM quarantine"#), ("over", r#"SELECT "offset" FROM base"#)];
    let files = texts.map(|(name, sql)| QueryFile::new(name, sql));
    let planned = plan_queries(&files, &Tables::read(None, &Topics::default()).unwrap());
    let plan = |name: &str| planned.views.iter().find(|plan| &*plan.name == name).expect("it is planned");
    let mut rejecting = Rejecting::new();
    rejecting.install(1, plan("base"), &[]);
    for count in 1..=40 {
        rejecting.go_on();
        assert_eq!(rejecting.shown.rows(ViewId(1)), Some((rejecting.epoch, count)));
        // Everything else is shown far ahead of it.
        rejecting.worker.part.views.advance(&Floors::published(1_000_000));
    }
    rejecting.install(2, plan("over"), &[("base", 1)]);
    rejecting.go_on();
    assert_eq!(rejecting.shown.rows(ViewId(2)), Some((41, 41)));
    rejecting.worker.end();
}

#[test]
fn what_several_scans_of_a_view_read_comes_side_by_side() {
    let sql = r#"SELECT "offset" AS place FROM quarantine UNION ALL SELECT "offset" + 1000 FROM quarantine"#;
    let planned = plan_queries(&[QueryFile::new("both", sql)], &Tables::read(None, &Topics::default()).unwrap());
    let mut rejecting = Rejecting::new();
    (0..100).for_each(|_| rejecting.go_on());
    rejecting.install(1, &planned.views[0], &[]);
    let (mut both, mut turns) = (0, 0);
    while rejecting.shown.rows(ViewId(1)) != Some((100, 200)) {
        turns += 1;
        assert!(turns < 10_000, "{:?}", rejecting.shown.rows(ViewId(1)));
        rejecting.worker.turn();
        if let [one, other] = rejecting.worker.part.views.hydrating_at(ViewId(1))[..] {
            assert!(one.abs_diff(other) <= 1, "{one} and {other}");
            both += 1;
        }
    }
    assert!(both >= 10, "both read in {both} slices");
    rejecting.worker.end();
}
