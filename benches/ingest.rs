//! A wire-exact log through the whole dataflow to the published view, without and with all shipped views, against
//! `speed_of_light` in the same run; and where the time of each view went, by its own meters.
//!
//! `cargo bench --bench ingest`; `TARN_BENCH_EVENTS` and `TARN_BENCH_THREADS` change its size.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::path::Path;

use support::reference::{Depth, read};
use support::{Spent, ingest_log, median, print_table, setting, spend};
use tarn::config::{Config, SourceKind};
use tarn::dataflow::Measures;
use tarn::service::Service;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let (path, events) = ingest_log();
    let threads = setting("TARN_BENCH_THREADS", 2);
    let rounds = setting("TARN_BENCH_ROUNDS", 3);
    let (mut light, mut bare, mut with_views) = (Rates::default(), Rates::default(), Rates::default());
    let (mut resources, mut parts) = (0, Vec::new());
    for _ in 0..rounds {
        let spent = spend(|| assert_eq!(read(&path, threads, Depth::Everything), events));
        light.note(spent, events);
        let mut replayed = None;
        let spent = spend(|| replayed = Some(replay(&path, threads as usize, "")));
        resources = replayed.expect("just replayed").publisher.view().census().resources;
        bare.note(spent, events);
        let mut replayed = None;
        let spent = spend(|| replayed = Some(replay(&path, threads as usize, "queries")));
        with_views.note(spent, events);
        parts = costs(&replayed.expect("just replayed"), events);
    }
    let rows = [
        light.row("speed of light (parse everything)", &light),
        bare.row("ingest to the published view", &light),
        with_views.row("ingest with all shipped views", &light),
    ];
    let title = format!("ingest: {events} records, {resources} resources, {threads} workers, median of {rounds}");
    print_table(&title, &["what", "records/s", "CPU µs a record", "ratio"], &rows);
    let columns = ["view", "part", "µs a record", "updates in", "updates out", "steps"];
    print_table("ingest: at work in the parts of views, all workers, last round", &columns, &parts);
}

/// How long each part of a view was at work, the longest first. What is shared is told with each view that shares it.
fn costs(service: &Service, events: u64) -> Vec<Vec<String>> {
    let view = service.publisher.view();
    let mut parts = Vec::new();
    for shown in view.catalog().views() {
        let cost = view.view_cost(shown.id);
        let shared = cost
            .shared
            .iter()
            .flat_map(|shared| &shared.parts)
            .map(|part| (format!("{} (shared)", part.part), part.measures));
        let own = cost.own.iter().map(|part| (part.part.to_owned(), part.measures));
        parts.extend(own.chain(shared).map(|(part, measures)| (shown.plan.name.to_string(), part, measures)));
    }
    parts.sort_by_key(|(.., measures)| std::cmp::Reverse(measures.busy));
    let micros = |busy: std::time::Duration| format!("{:.3}", busy.as_secs_f64() * 1e6 / events as f64);
    let row = |(view, part, measures): (String, String, Measures)| {
        let counts = [measures.updates_in, measures.updates_out, measures.steps].map(|count| count.to_string());
        [view, part, micros(measures.busy)].into_iter().chain(counts).collect()
    };
    parts.into_iter().map(row).collect()
}

/// What several rounds took.
#[derive(Default)]
struct Rates {
    records_a_second: Vec<f64>,
    cpu_micros_a_record: Vec<f64>,
}

impl Rates {
    fn note(&mut self, spent: Spent, events: u64) {
        self.records_a_second.push(events as f64 / spent.wall.as_secs_f64());
        self.cpu_micros_a_record.push(spent.cpu.as_secs_f64() * 1e6 / events as f64);
    }

    fn row(&self, name: &str, reference: &Self) -> Vec<String> {
        let ratios = self.records_a_second.iter().zip(&reference.records_a_second).map(|(rate, other)| rate / other);
        let rate = median(self.records_a_second.clone());
        let micros = median(self.cpu_micros_a_record.clone());
        vec![name.to_owned(), format!("{rate:.0}"), format!("{micros:.2}"), format!("{:.2}", median(ratios.collect()))]
    }
}

/// Replays the log to its end, when everything is visible, the views of a folder included.
fn replay(path: &Path, workers: usize, views: &str) -> Service {
    let mut config = Config::default();
    config.views.directory = views.to_owned();
    config.source.kind = SourceKind::Log;
    config.source.log.path = path.display().to_string();
    config.dataflow.workers = workers;
    let (service, running) =
        tarn::service::start(config, tarn::service::Time::Log, tarn::snapshot::Verification::OnThread)
            .expect("the log is there");
    running.join().expect("the replay goes through");
    service
}
