//! A wire-exact log through the whole dataflow to the published view, without and with all shipped views, against
//! `speed_of_light` in the same run.
//!
//! `cargo bench --bench ingest`; `TARN_BENCH_EVENTS` and `TARN_BENCH_THREADS` change its size.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::path::Path;

use support::reference::{Depth, read};
use support::{Spent, ingest_log, median, print_table, setting, spend};
use tarn::config::{Config, SourceKind};
use tarn::service::Service;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let (path, events) = ingest_log();
    let threads = setting("TARN_BENCH_THREADS", 2);
    let rounds = setting("TARN_BENCH_ROUNDS", 3);
    let (mut light, mut bare, mut with_views) = (Rates::default(), Rates::default(), Rates::default());
    let mut resources = 0;
    for _ in 0..rounds {
        let spent = spend(|| assert_eq!(read(&path, threads, Depth::Everything), events));
        light.note(spent, events);
        let mut replayed = None;
        let spent = spend(|| replayed = Some(replay(&path, threads as usize, "")));
        resources = replayed.expect("just replayed").publisher.view().census().resources;
        bare.note(spent, events);
        let spent = spend(|| drop(replay(&path, threads as usize, "queries")));
        with_views.note(spent, events);
    }
    let rows = [
        light.row("speed of light (parse everything)", &light),
        bare.row("ingest to the published view", &light),
        with_views.row("ingest with all shipped views", &light),
    ];
    let title = format!("ingest: {events} records, {resources} resources, {threads} workers, median of {rounds}");
    print_table(&title, &["what", "records/s", "CPU µs a record", "ratio"], &rows);
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
